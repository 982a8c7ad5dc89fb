//! The sections of the manual page other than the options. Only the helper, which prints the page, includes this file.

pub(crate) const REST: [(&str, &str); 12] = [
    (
        "POST /api/v1alpha1/lock",
        "Acquire a lock. The body is a JSON object with the members service and who (both required), environment, \
         resource, eventId, ttl and wait. The values of ttl and wait are time spans such as \"90s\" or \"30m\", or \
         numbers of seconds. The answer is 200 with the lock (its members are both in the object lock and at the top \
         level), or 409 without an id and with existingLock if another caller holds the lock. With \"mode\":\"shared\", any \
         number of callers hold the lock together. With \"slots\":N (1 to 1024), up to N callers do, and slot in the answer is \
         the number of the caller's slot; a request with another N is refused with 409 and the code 9 while a slot is held. \
         Without these members, the lock is exclusive. Unknown members are \
         ignored, with two exceptions that are refused with 400: a name that differs from a known one only by case or \
         separators, such as TTL, and a name that begins with ttl or wait, such as ttlSeconds. A body over 64 KiB is \
         refused with 413.",
    ),
    ("GET /api/v1alpha1/lock/ID", "Show a lock."),
    (
        "PUT /api/v1alpha1/lock/ID",
        "Change the members that are not empty. The answer is 409 if another lock has the new key.",
    ),
    ("PUT /api/v1alpha1/lock/ID/renew", "Restart the time to live of a lock, or set it to the ttl of the body."),
    ("GET or POST /api/v1alpha1/unlock/ID, DELETE /api/v1alpha1/lock/ID", "Release a lock."),
    (
        "GET /api/v1alpha1/locks/list",
        "List the locks that are held, the oldest first, each with its waiters. The parameters per_page and page \
         select a page (without per_page, all locks are on page 1). A parameter with the name of a member (service, \
         environment, resource, who, eventId) selects the locks with exactly this value. The parameter q selects the \
         locks that contain all of its words.",
    ),
    (
        "GET /api/v1alpha1/locks/history",
        "List the locks that have ended, the newest end first: the members of the lock, endedAt, end (released; forced: by a \
         caller that does not own it, or by force-unlock of Terraform; expired; taken_back: the service noticed before its answer \
         that the caller had gone; moved: the lock got another key), and, with a token file, owner and endedBy. The service keeps the last \
         10,000 locks. The parameter limit (1 to 1000, default 100) is the number of locks in the answer. If there are more, \
         the answer has the member next, and before=NEXT continues there. The other parameters are those of the list, but \
         without pages.",
    ),
    (
        "GET /api/v1alpha1/locks/events",
        "Follow the changes of locks as server-sent events: created, updated, renewed, released and expired (the data is the \
         lock as in the list; if it has ended, with endedAt, end and endedBy), queue (the key of a lock whose waiters have \
         changed, and its present queue), and reset: load the list of the locks, and apply the events that follow. The stream \
         begins with reset, unless the header Last-Event-ID has the id of an event after which the service still knows all \
         events (it keeps 2048). After an interruption, an event may come twice. The parameters service, environment and \
         resource select events. At most 256 clients can read events; further ones get 429. Without events, a comment comes \
         every 15 seconds. A client that reads nothing for 30 seconds is disconnected.",
    ),
    (
        "GET /healthz",
        "Check the service: 200 if a lock could be granted within the last second, otherwise 503. This call needs no \
         token.",
    ),
    (
        "GET /livez",
        "Check only that the service answers, for liveness probes: while the store fails, /healthz reports 503, and /livez \
         200, because a restart would not help. This call needs no token.",
    ),
    ("GET /metrics, /openapi.json", "Metrics for Prometheus, and a description of this API for programs (OpenAPI)."),
    (
        "GET /",
        "A web page that shows the locks, their owners and waiters, and the locks that have ended. It sorts, filters, and \
         unlocks a lock after a question. The view, the order and the filter are in its address (?q=WORDS&sort=COLUMN, \
         ?view=history&service=NAME), so that a view can be shared. The page follows the events, and reads the list every \
         three seconds if it does not get them. If the \
         service needs a token, the page asks for it, and the browser tab keeps it until it is closed.",
    ),
];

pub(crate) const TERRAFORM: [(&str, &str); 5] = [
    (
        "lock_address, unlock_address",
        "The backend http of Terraform and OpenTofu can lock a state in this service: set both to \
         http://HOST:PORT/terraform/NAME, and password to the token (the user name may be any text, but not empty). The \
         service stores no state: address must be that of another server, and must not be an address of this service. \
         A request for a state is refused with 405.",
    ),
    (
        "LOCK, PUT or POST /terraform/NAME",
        "Acquire the lock of the service terraform/NAME, without an environment and a resource. The body is the lock \
         info of the client, a JSON object with an ID. The answer is 200, or 423 with the lock info of the holder. A \
         second request with the same ID succeeds. The parameters ttl and wait may follow, as in /terraform/NAME?wait=5m. \
         The clients do not renew a lock, so a ttl must be longer than every run.",
    ),
    (
        "UNLOCK or DELETE /terraform/NAME",
        "Release the lock, if it has the ID of the body. The answer is 200; 409 with the lock info of the holder, if it \
         is another one; or 404 if the lock was released or has expired.",
    ),
    (
        "force-unlock ID",
        "The clients send neither the ID nor a body, so the lock is released whatever its ID is. If the service has a \
         token file, only the owner of the lock and callers with lock:admin may do this.",
    ),
    (
        "permissions",
        "The service of a lock is terraform/NAME: lock:write:terraform/net/* permits the states whose names begin with \
         net/.",
    ),
];

pub(crate) const GRPC: [(&str, &str); 2] = [
    (
        "tracker.lock.v1alpha1.LockService",
        "The calls are CreateLock, GetLock, UpdateLock, UnLock, ListLocks and RenewLock. Server reflection (v1 and \
         v1alpha) describes their messages. If there are thousands of locks, set per_page in ListLocks: without it, \
         all locks are in one message, and clients accept at most 4 MB by default.",
    ),
    (
        "grpc.health.v1.Health",
        "Check and Watch report SERVING if a lock could be granted, as /healthz does, and NOT_SERVING otherwise. The service \
         is tracker.lock.v1alpha1.LockService, or empty. These calls need no token, and do not keep a \
         connection open: on a connection without other calls, Watch ends after ten seconds, so use Check.",
    ),
];

pub(crate) const TOKENS: [(&str, &str); 2] = [
    (
        "aba-lockd token new NAME [--permission PERMISSION]...",
        "Print a new token of 256 random bits, and on the second line the line for the token file, which contains only \
         the SHA-256 digest of the token. The token is not stored anywhere. Without --permission, the permissions are \
         lock:read and lock:write. A slow hash, as for passwords, is not needed: a random token of this \
         length cannot be guessed.",
    ),
    (
        "Authorization: Bearer TOKEN, X-Api-Key: TOKEN, Authorization: Basic BASE64",
        "The headers with which a caller sends its token, in REST and (as metadata) in gRPC. If X-Api-Key is there, \
         Authorization is not read. With Basic, the token is the password, and the user name may be any text. A \
         repeated header is refused. Without a known token, the answer is 401 (gRPC: UNAUTHENTICATED). If the token \
         does not permit the call, the answer is 403 (PERMISSION_DENIED), and the message names the missing permission.",
    ),
];

pub(crate) const TOKEN_FILE: [(&str, &str); 6] = [
    (
        "NAME HASH PERMISSIONS",
        "One line for each token. Empty lines and lines that begin with # are ignored. The service reads the file \
         when it starts and on SIGHUP. After that, it refuses tokens that are not in the file any more. If the file \
         cannot be used, the previous tokens stay valid. The service warns if every user of the machine can change \
         the file, if every user can read it (unless all tokens are digests), and if other machines have to send \
         their tokens without TLS.",
    ),
    (
        "NAME",
        "The owner of the locks that callers with this token create, and the name in the log (by, owner). Several \
         lines may have the same name, for example while an old token is replaced by a new one.",
    ),
    (
        "HASH",
        "sha256: followed by the SHA-256 digest of the token in hexadecimal, as printed by aba-lockd token new. Or \
         cert: followed by the name in a client certificate (--tls-client-ca): the common name, or the digest that \
         the log shows. Write a blank in the name as %20 and a % as %25. A certificate counts only for calls without a \
         token.",
    ),
    (
        "PERMISSIONS",
        "One or more of these, with commas between them: lock:read (get and list locks, read metrics), lock:write \
         (create locks, and update, renew and unlock those of NAME), and lock:admin (all calls, for the locks of all \
         owners). A colon and a service after it limit the permission to that service (lock:write:shop); with a * at \
         its end, to all services whose names begin in this way (lock:write:team-a/*). In the name of a service, write \
         a blank as %20, a comma as %2C, a * as %2A and a % as %25. A list, the history and the events contain only the locks that the caller may \
         read. If the request names another service (service=shop), the answer is 403. With eventId, a list needs only \
         lock:write, and also contains the locks of NAME.",
    ),
    (
        "owner",
        "Only callers with the same NAME as its creator may update, renew or unlock a lock, with two exceptions: \
         callers with lock:admin for its service, and callers with lock:write for its service and the secret of the \
         lock. The answer to the request for the lock contains this secret (member secret), and the callers send it in \
         the header X-Lock-Secret. A lock that was created while the service had no token file has no owner.",
    ),
    (
        "NAME PERMISSIONS TOKEN",
        "An older form of the line, which is still accepted. TOKEN is the token in clear text, or sha256: and its \
         digest.",
    ),
];

pub(crate) const SIGNALS: [(&str, &str); 2] = [
    (
        "SIGTERM, SIGINT",
        "Stop the service as soon as all requests are answered, but after at most ten seconds. A second signal stops \
         it immediately. For a client that has not made a permitted call yet, the service waits at most one second.",
    ),
    (
        "SIGHUP",
        "Read the token file, the certificate, its key and the certificate authority of the clients again. The tokens \
         are replaced as a whole, and so are the certificates. If a file cannot be used, its previous version stays \
         in use, and the log names the reason (not_reloaded). The new certificates are used for new connections; open \
         connections stay open.",
    ),
];

pub(crate) const CONNECTIONS: [(&str, &str); 2] = [
    (
        "number",
        "The maximum is the limit of open files (ulimit -n) minus 48, but at most 65,536. The service raises its own \
         limit to the hard limit. At most three quarters of the connections may wait for a lock over REST, or read \
         events; further calls of this kind are refused with 429. When all connections are in use, new ones wait, and are accepted \
         in the order of arrival.",
    ),
    (
        "duration",
        "A connection is closed if no permitted call (which calls of grpc.health.v1 are not) arrives on it within ten seconds, or within two seconds while \
         most connections are in use. A REST connection is also closed after a minute without a request.",
    ),
];

pub(crate) const GUARANTEES: [(&str, &str); 7] = [
    (
        "mutual exclusion",
        "A lock is on disk before it is granted, and the check and the write are one transaction. Each key is unique \
         in the store.",
    ),
    (
        "fairness",
        "Waiters are served in the order of arrival, whatever their modes: a shared request does not overtake an exclusive \
         one. A waiter that closes its connection, or the sending side of it, leaves the queue. When the service stops, all waiters get 503 and should try again.",
    ),
    (
        "time to live",
        "It is measured by a clock that cannot be set. After a restart of the service, every lock that has not \
         expired by the time of day gets its full time to live again, because it could not be renewed while the \
         service was down.",
    ),
    (
        "fencing token",
        "Each token is greater than all earlier ones, also after a restart or a move to another store, because tokens \
         are at least as great as the clock (microseconds since 1970; in an etcd cluster, the clock at the start of \
         the service). If the clock of the old store was wrong, give --token-base. A lock that expires does not stop \
         its owner: only a resource that refuses smaller tokens does.",
    ),
    (
        "failure of the store",
        "The answer is 503. The caller does not know whether its call took effect, and the service does not report \
         any lock as free. If etcd executes a change late or without an answer, the change has no effect, or the \
         service reverts it as soon as etcd answers.",
    ),
    (
        "etcd cluster",
        "All guarantees hold for all services that share the cluster. Times to live are etcd leases: whole seconds, \
         and at least two. While an aba-lockd that does not know mode and slots uses the cluster, requests with them are \
         refused. If a service is killed, its waiters lose their places in the queue within some seconds. \
         The services have one history, and a client can follow the events at another service with the same Last-Event-ID. A \
         lock that expires while no service runs is not in the history. \
         After a change of the etcd leader, each lock gets its full time to live again.",
    ),
    (
        "lost answer",
        "If the answer to a create call is lost, a lock remains that its owner does not know of. It ends by its time \
         to live. The service takes such a lock back only if it notices before its answer that the caller has gone: a \
         waiter that closed its connection, or the sending side of it, or a caller without wait that did so more than a \
         second before the store answered. A service cannot notice more: a caller that has closed its sending side may \
         still read the answer. With an eventId, the owner can find the lock in the list, and a second create call with the same \
         who and eventId returns it immediately (409, existingLock). Renew such a lock before you rely on it.",
    ),
];

pub(crate) const ENVIRONMENT: [(&str, &str); 2] = [
    ("XDG_STATE_HOME, HOME", "The directories from which the default path of the store is made."),
    (
        "NOTIFY_SOCKET",
        "The service reports to this socket that it is ready, that it reloads its files, and that it stops (systemd, \
         Type=notify).",
    ),
];

pub(crate) const FILES: [(&str, &str); 4] = [
    (
        "/etc/aba-lockd/options",
        "Settings of the systemd unit: STORE= is the store, and OPTIONS= are more options. The unit runs the service as \
         the user aba-lockd, so that user or its group must be able to read the files that the options name.",
    ),
    (
        "$XDG_STATE_HOME/aba-lock/lockd.db, ~/.local/state/aba-lock/lockd.db",
        "The default store. The service does not create a home directory that does not exist.",
    ),
    (
        "lockd.db-wal, lockd.db-shm",
        "Parts of the store: copy them together with it. If the store is removed or replaced while the service uses \
         it, all calls fail with 503 until it is put back or the service is restarted.",
    ),
    ("lockd.db.lock", "The service holds a lock on this file and on the store while it uses the store."),
];

pub(crate) const EXAMPLES: [(&str, &str); 5] = [
    ("aba-lockd serve", "Serve this machine. The web page is at http://127.0.0.1:8080/."),
    (
        "aba-lockd serve --listen 0.0.0.0:8080 --token-file /etc/aba-lockd/tokens --tls-cert /etc/aba-lockd/cert.pem --tls-key /etc/aba-lockd/key.pem",
        "Serve other machines, with tokens and TLS.",
    ),
    (
        "aba-lockd serve --store etcd://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379",
        "Share the locks with the services on other machines that use the same etcd cluster.",
    ),
    (
        "curl -d '{\"service\":\"shop\",\"who\":\"me\",\"environment\":\"production\",\"resource\":\"deploy\",\"ttl\":\"10m\",\"wait\":\"1m\"}' localhost:8080/api/v1alpha1/lock",
        "Acquire a lock for ten minutes. If another caller holds it, wait for up to one minute.",
    ),
    (
        "id=$(curl -s localhost:8080/api/v1alpha1/lock -d '{\"service\":\"shop\",\"who\":\"me\"}' | jq -er .id) && [ -n \"$id\" ] || exit",
        "Acquire a lock in a script, and exit if there is no id: either another caller holds the lock (the id is \
         null), or the service does not answer (the output is empty, which jq -e of jq 1.6 accepts). A script that \
         only compares the id with null, as in the guide of the original API, continues without a lock when the \
         service is down.",
    ),
];
