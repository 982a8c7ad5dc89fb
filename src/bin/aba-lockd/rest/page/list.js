// The locks that the service lists, and the words by which the page selects them.

import { call } from "./service.js";

// Maximum number of locks in a request. If there are more, the service searches them for the words of the filter.
const most = 1000;

// `locks`: the oldest locks. `found`: the result of a search for `foundFor`, if `locks` does not hold all locks.
// `asOf`: the time at which `locks` was read. `stale`: true if a later read has failed.
export const list = { locks: [], total: 0, found: null, foundFor: "", asOf: null, stale: false };

export const splitWords = (text) => text.trim().toLowerCase().split(/\s+/).filter(Boolean);

export const hasWords = (texts, words) => {
  const text = texts.join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
};

export const describeKey = (lock) => [lock.service, lock.environment, lock.resource].filter(Boolean).join(" / ");

export const describeMode = ({ mode, slot, slots }) => slots ? (slot ? `slot ${slot} of ${slots}` : `one of ${slots} slots`) : mode || "exclusive";

const listTexts = (lock) => [lock.service, lock.environment, lock.resource, lock.who, lock.eventId, lock.id, ...(lock.queue || []).map((one) => one.who)];

// Events that have arrived while the list is read. They are applied again after it, because the answer may be older than
// some of them. This does no harm to others.
let early = null;

const isSameKey = (one, other) => ["service", "environment", "resource"].every((name) => one[name] === other[name]);

const setQueue = (key, queue) => {
  list.locks = list.locks.map((lock) => isSameKey(lock, key) ? { ...lock, queue: queue && queue.length ? queue : undefined } : lock);
};

const change = (kind, data) => {
  const others = list.locks.filter((lock) => lock.id !== data.id);
  if (kind === "released" || kind === "expired") {
    list.locks = others;
  } else if (kind === "queue") {
    setQueue(data, data.queue);
  } else if (kind === "created" || others.length === list.locks.length) {
    list.locks = others.concat(data);
    setQueue(data, data.queue);
  } else {
    list.locks = list.locks.map((lock) => lock.id === data.id ? data : lock);
    setQueue(data, data.queue);
  }
  list.total = list.locks.length;
};

// Changes the list as an event says. Returns false if the list must be read instead.
export const applyEvent = (kind, data) => {
  if (!["created", "updated", "renewed", "released", "expired", "queue"].includes(kind) || list.stale || isPartial()) return false;
  early?.push([kind, data]);
  change(kind, data);
  list.asOf = new Date();
  return true;
};

export const readList = async (words) => {
  early = [];
  try {
    await readAll(words);
    if (!isPartial()) for (const [kind, data] of early) change(kind, data);
  } finally {
    early = null;
  }
};

const readAll = async (words) => {
  const wanted = words.join(" "), all = await call("GET", `locks/list?per_page=${most}`);
  const isPart = wanted && all.total > all.locks.length;
  const found = isPart ? await call("GET", `locks/list?per_page=${most}&q=${encodeURIComponent(wanted)}`) : null;
  Object.assign(list, { locks: all.locks, total: all.total, found, foundFor: wanted, asOf: new Date(), stale: false });
};

// Returns the locks that contain all words, and the text about their number. `isSearching` is true if the service must be
// asked first.
export const selectLocks = (words) => {
  const needsSearch = words.length > 0 && list.total > list.locks.length;
  const found = needsSearch && list.foundFor === words.join(" ") ? list.found : null;
  const locks = found ? found.locks : list.locks.filter((lock) => hasWords(listTexts(lock), words));
  const number = found ? found.total : locks.length;
  const [all, read] = found ? [found.total, found.locks.length] : [list.total, list.locks.length];
  const count = (words.length ? `${number} of ` : "") + list.total + (list.total === 1 ? " lock" : " locks") + (all > read ? `, showing the oldest ${read}` : "");
  return { locks, count, isSearching: needsSearch && !found };
};

export const isPartial = () => list.total > list.locks.length;

// Returns the other locks that share the key of this one.
export const listSharers = (lock) => list.locks.filter((other) => other.id !== lock.id && describeKey(other) === describeKey(lock));
