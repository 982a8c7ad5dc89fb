//! The sections of the manual page other than the options. Only `aba-lock-man`, which writes the pages, includes this file.

pub(crate) const REST: [(&str, &str); 9] = [
    (
        "POST /api/v1alpha1/lock",
        "take a lock: a JSON object of service, who (these two are needed), environment, resource, eventId, ttl and wait, the last \
         two as \"90s\", \"30m\" or a number of seconds. 200 with the lock, once under lock and once flat; 409 without an id, and \
         with existingLock, if another has it. Unknown members are ignored, but one that differs from these by case or separators \
         alone, such as TTL, or that begins with ttl or wait, such as ttlSeconds, is refused with 400; a body over 64 KiB is refused with 413",
    ),
    ("GET /api/v1alpha1/lock/ID", "look at it"),
    ("PUT /api/v1alpha1/lock/ID", "change what is not empty; never onto a lock that another has"),
    ("PUT /api/v1alpha1/lock/ID/renew", "give it its time to live again, or the ttl in the body"),
    ("GET or POST /api/v1alpha1/unlock/ID, DELETE /api/v1alpha1/lock/ID", "release it"),
    (
        "GET /api/v1alpha1/locks/list",
        "the locks that are held, the oldest first, each with its waiters: per_page, page (from 2 on it needs per_page), and service, environment, resource, who, eventId to find those with exactly these, and q to find \
         those in which all of its words occur",
    ),
    ("GET /healthz", "200 if a lock could be granted within the last second, else 503; it needs no token"),
    ("GET /metrics, /openapi.json", "numbers for Prometheus, and all of this for programs"),
    ("GET /", "a page for people: who has what, who waits, and a button to unlock"),
];

pub(crate) const GRPC: [(&str, &str); 1] = [(
    "tracker.lock.v1alpha1.LockService",
    "CreateLock, GetLock, UpdateLock, UnLock, ListLocks, RenewLock; reflection tells the rest (v1 and v1alpha). Ask \
     ListLocks for pages where there are thousands: without, all are on one, and clients take 4 MB unless they are told otherwise",
)];

pub(crate) const TOKEN_FILE: [(&str, &str); 3] = [
    (
        "NAME SCOPES TOKEN",
        "a line for each token; empty lines and those that begin with # do not count. The service reads it when it starts, and again at SIGHUP: \
         from then on it refuses a token that is not in the file any more. A file that cannot be used changes nothing. The service warns if \
         every user of the machine may change the file, or may read it (unless all tokens are digests), and if other machines must send \
         their tokens without TLS",
    ),
    ("NAME", "what the log calls who has it"),
    (
        "SCOPES",
        "lock:read (to look: get, list, metrics), lock:write (create, update, renew, unlock), or lock:read,lock:write. TOKEN is \
         the token, or sha256: and the SHA-256 digest of it in hexadecimal (printf %s TOKEN | sha256sum)",
    ),
];

pub(crate) const SIGNALS: [(&str, &str); 2] = [
    (
        "SIGTERM, SIGINT",
        "ends the service when all requests are answered, or after ten seconds; a second signal ends it at once. For a client that \
         has not made a permitted call yet, the service waits one second at most",
    ),
    (
        "SIGHUP",
        "makes the service read the token file, the certificate, its key and the authority of the clients again. The tokens take \
         effect as a whole, and so do the certificates; if they cannot be used, the old ones stay in force, and the log says why \
         (not_reloaded). New certificates are for new connections: those that are open stay",
    ),
];

pub(crate) const CONNECTIONS: [(&str, &str); 2] = [
    (
        "how many",
        "the limit of open files (ulimit -n) less 48, and at most 65,536. The service raises its limit to the hard limit. \
         Over REST, three of four connections may wait for a lock; a further call that would wait is refused with 429. When all \
         connections are in use, new ones wait, and are accepted in the order in which they came",
    ),
    (
        "how long",
        "a connection is closed if no permitted call has come over it within ten seconds, or within two while most connections are \
         in use. Over REST, it is also closed if it has not been used for a minute",
    ),
];

pub(crate) const GUARANTEES: [(&str, &str); 7] = [
    (
        "one has it",
        "a lock is on disk before it is granted, in one transaction with the check; a key is unique in the store",
    ),
    (
        "in turn",
        "who waits is served in the order of coming. Who closes the connection, or only stops sending, leaves the queue. When the service stops, they are \
         told (503) and ask again",
    ),
    (
        "a time to live",
        "counts by a clock that nobody can set. After a restart a lock that has not ended by then has its full time again, because \
         it could not be renewed meanwhile; for that alone the time of day counts",
    ),
    (
        "a fencing token",
        "is greater than all before it, over restarts too, and over a move to another store: it is never behind the clock \
         (microseconds since 1970), in an etcd cluster as it is when a service starts. If that clock was wrong, --token-base mends \
         it. A lock that expires does not stop who had it: \
         only a resource that refuses smaller tokens does",
    ),
    (
        "a store that fails",
        "is 503: nothing is known to be granted or released, and nothing is said to be free. What etcd does late, or does \
         without an answer, comes to nothing, or is taken back as soon as etcd answers",
    ),
    (
        "in an etcd cluster",
        "all this holds over all services that share it. Times to live are leases of etcd: whole seconds, two at least. When a \
         service is killed, who waited there has gone, and their places are given up within some seconds; after a change of \
         etcd's leader each lock has its full time again",
    ),
    (
        "an answer that is lost",
        "leaves a lock that its owner does not know of. A time to live ends it; an eventId finds it in the list, and who asks again \
         with it, also to wait, is told at once (409, existingLock). Renew that lock before you go by it",
    ),
];

pub(crate) const FILES: [(&str, &str); 3] = [
    (
        "$XDG_STATE_HOME/aba-lock/lockd.db, ~/.local/state/aba-lock/lockd.db",
        "the store, unless --store names another one. A home directory that does not exist is not made",
    ),
    (
        "lockd.db-wal, lockd.db-shm",
        "belong to it, and are to be copied with it. A store that is removed or replaced while a service has it is a fault until it \
         is put back, or the service is started again",
    ),
    ("lockd.db.lock", "locked while a service has the store, as is the store itself"),
];

pub(crate) const ENVIRONMENT: [(&str, &str); 2] = [
    ("XDG_STATE_HOME, HOME", "where the store is"),
    (
        "NOTIFY_SOCKET",
        "the service reports here when it is ready, when it reloads its files, and when it stops (systemd, Type=notify)",
    ),
];

pub(crate) const EXAMPLES: [(&str, &str); 4] = [
    ("aba-lockd serve", "serve this machine, with the page at http://127.0.0.1:8080/"),
    (
        "aba-lockd serve --listen 0.0.0.0:8080 --token-file /etc/aba-lockd/tokens --tls-cert /etc/aba-lockd/cert.pem --tls-key /etc/aba-lockd/key.pem",
        "serve others, with tokens, over TLS",
    ),
    (
        "curl -d '{\"service\":\"shop\",\"who\":\"me\",\"environment\":\"production\",\"resource\":\"deploy\",\"ttl\":\"10m\",\"wait\":\"1m\"}' localhost:8080/api/v1alpha1/lock",
        "take a lock for ten minutes; wait for a minute if another has it",
    ),
    (
        "id=$(curl -s localhost:8080/api/v1alpha1/lock -d '{\"service\":\"shop\",\"who\":\"me\"}' | jq -er .id) && [ -n \"$id\" ] || exit",
        "in a script: it ends if there is no id, because another client holds the lock (null), or because the service does not \
         answer (empty, which jq -e of jq 1.6 accepts). A script that follows the guide of the original API only compares the id \
         with null, and goes on without a lock when the service is down",
    ),
];
