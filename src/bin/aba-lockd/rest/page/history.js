// The table of the locks that have ended, the last end first.

import { copyText, formatSpan, formatTime, make, makeButton, makeCell, makeHeading, makeTimeLine, part, selectVisible, write } from "./dom.js";
import { describeKey, describeMode } from "./list.js";
import { call, readClock } from "./service.js";

const titles = ["Lock", "Owner", "Mode", "Held for", "End"], keys = ["lock", "owner", "mode", "age", "past"];
// Number of locks that are read at a time.
const step = 100;

// The locks that are shown, the place of older ones, and the query that selected them.
let past = [], next = null, queryText = null;
const lines = new Map();

const identify = (lock) => `${lock.id} ${lock.endedAt}`;

const ends = { released: "released", forced: "force-unlocked", expired: "expired", taken_back: "taken back: its caller had gone", moved: "got another key" };
const describeEnd = ({ end, endedBy }) => (ends[end] || end) + (endedBy ? ` by ${endedBy}` : "");

const makeLine = (lock) => {
  const row = make("tr");
  row.setAttribute("role", "row");
  const idLine = make("div", undefined, "soft"), id = make("span", lock.id, "id"), copy = makeButton("Copy", "link copy", () => copyText(id, copy));
  copy.setAttribute("aria-label", `Copy the id of ${describeKey(lock)}`);
  idLine.append(id, " ", copy);
  const held = (Date.parse(lock.endedAt) - Date.parse(lock.createdAt)) / 1000;
  const ended = makeTimeLine("", lock.endedAt);
  ended.classList.add("ago");
  const contents = [
    [make("div", describeKey(lock), "where"), idLine],
    [make("div", lock.who), ...(lock.eventId ? [make("div", `event ${lock.eventId}`, "soft")] : [])],
    [make("span", describeMode(lock), lock.slots || lock.mode ? "pill shared" : "pill")],
    [make("div", formatSpan(held)), makeTimeLine(`since ${formatTime(lock.createdAt)}`, lock.createdAt)],
    [make("div", describeEnd(lock), lock.end === "forced" || lock.end === "expired" ? "soon" : undefined), ended],
  ];
  contents.forEach((nodes, at) => {
    const cell = makeCell(titles[at]), content = make("div");
    content.append(...nodes);
    cell.append(content);
    row.append(cell);
  });
  return { row, lock };
};

const showTimes = ({ row, lock }) => {
  const ago = (readClock() - Date.parse(lock.endedAt)) / 1000;
  write(row.querySelector(".ago"), `${formatSpan(ago)} ago, at ${formatTime(lock.endedAt)}`);
};

export const tickHistory = () => { for (const line of selectVisible(lines.values())) showTimes(line); };

const show = () => {
  const rows = part("past-rows"), kept = new Set(past.map(identify));
  for (const [name, { row }] of lines) if (!kept.has(name)) { row.remove(); lines.delete(name); }
  past.forEach((lock, at) => {
    const name = identify(lock);
    if (!lines.has(name)) lines.set(name, makeLine(lock));
    const line = lines.get(name);
    showTimes(line);
    if (rows.children[at] !== line.row) rows.insertBefore(line.row, rows.children[at] || null);
  });
  part("past").hidden = !past.length;
  part("past-none").hidden = past.length > 0;
  write(part("past-none-text"), queryText ? "No lock in the history matches." : "No lock has ended yet.");
  part("older").hidden = !next;
};

const read = (before) => {
  const query = new URLSearchParams(queryText);
  query.set("limit", step);
  if (before) query.set("before", before);
  return call("GET", `locks/history?${query}`);
};

// Reads the newest part of the history, and keeps older parts that are already shown. Returns the text about the number.
export const readHistory = async (words, service) => {
  const query = new URLSearchParams();
  if (words.length) query.set("q", words.join(" "));
  if (service) query.set("service", service);
  const isSame = queryText === String(query);
  queryText = String(query);
  const asked = queryText, answer = await read();
  // Another query has begun in the meantime.
  if (asked !== queryText) return;
  const known = new Set(isSame ? past.map(identify) : []), fresh = answer.locks.filter((lock) => !known.has(identify(lock)));
  if (known.size && fresh.length < answer.locks.length) past = fresh.concat(past);
  else [past, next] = [answer.locks, answer.next || null];
  show();
};

export const countHistory = () => `${past.length}${next ? " newest" : ""} ${past.length === 1 ? "lock" : "locks"} in the history`;

export const readOlder = async () => {
  const asked = queryText, answer = await read(next);
  if (asked !== queryText) return;
  const known = new Set(past.map(identify));
  past = past.concat(answer.locks.filter((lock) => !known.has(identify(lock))));
  next = answer.next || null;
  show();
};

export const startHistory = () => {
  titles.forEach((title, at) => part("past-heads").append(makeHeading(keys[at], title)));
};
