// The table of the locks that are held.

import { copyText, formatSpan, formatTime, formatTtl, make, makeButton, makeCell, makeHeading, makeTimeLine, part, selectVisible, write } from "./dom.js";
import { describeKey, describeMode } from "./list.js";
import { readClock } from "./service.js";

// Number of waiters that a row shows. The details show all of them.
const shownWaiters = 3;

const showId = (lock) => {
  const line = make("div", undefined, "soft"), id = make("span", lock.id, "id");
  const copy = makeButton("Copy", "link copy", () => copyText(id, copy));
  copy.setAttribute("aria-label", `Copy the id of ${describeKey(lock)}`);
  line.append(id, " ", copy);
  return line;
};

const showWaiters = ({ queue = [] }) => {
  if (!queue.length) return [];
  const waiters = make("ol");
  for (const one of queue.slice(0, shownWaiters)) waiters.append(make("li", one.who));
  const more = queue.length - shownWaiters;
  return more > 0 ? [waiters, make("div", `and ${more} more`, "soft")] : [waiters];
};

// The columns: a key for the address, a title, the value to sort by, the members that the cell shows, and the nodes in it.
const columns = [
  {
    key: "lock", title: "Lock", value: describeKey, members: (lock) => [describeKey(lock)],
    show: (lock) => [make("div", describeKey(lock), "where"), showId(lock)],
  },
  {
    key: "owner", title: "Owner", value: (lock) => lock.who, members: (lock) => [lock.who, lock.eventId],
    show: (lock) => [make("div", lock.who), ...(lock.eventId ? [make("div", `event ${lock.eventId}`, "soft")] : [])],
  },
  {
    key: "mode", title: "Mode", value: describeMode, members: (lock) => [describeMode(lock)],
    show: (lock) => [make("span", describeMode(lock), lock.slots || lock.mode ? "pill shared" : "pill")],
  },
  {
    key: "age", title: "Held for", value: (lock) => -Date.parse(lock.createdAt), members: (lock) => [lock.createdAt],
    show: (lock) => [make("div", "", "age"), makeTimeLine(`since ${formatTime(lock.createdAt)}`, lock.createdAt)],
  },
  {
    key: "end", title: "Ends", value: (lock) => lock.expiresAt ? Date.parse(lock.expiresAt) : Infinity, members: (lock) => [lock.expiresAt, lock.ttl],
    show: (lock) => lock.expiresAt ? [make("div", "", "end"), makeTimeLine(`TTL ${formatTtl(lock.ttl)}`, lock.expiresAt)] : [make("div", "when unlocked", "soft")],
  },
  {
    key: "queue", title: "Waiting", value: (lock) => (lock.queue || []).length, members: (lock) => (lock.queue || []).map((one) => one.who),
    show: showWaiters,
  },
];
export const sortKeys = columns.map(({ key }) => key);

// For each lock that is shown: its row, the row's cells, and what they show.
const lines = new Map();

const showTimes = (row, lock) => {
  const now = readClock();
  write(row.querySelector(".age"), formatSpan((now - Date.parse(lock.createdAt)) / 1000));
  const end = row.querySelector(".end");
  if (!end) return;
  const left = (Date.parse(lock.expiresAt) - now) / 1000;
  write(end, left > 0 ? `in ${formatSpan(left)}` : "now");
  end.classList.toggle("soon", left < 30);
};

export const tick = () => { for (const { row, lock } of selectVisible(lines.values())) showTimes(row, lock); };

const makeLine = (lock, openDetails) => {
  const row = make("tr"), line = { row, lock, cells: [], shown: [] };
  row.setAttribute("role", "row");
  row.dataset.id = lock.id;
  for (const { title } of columns) {
    const cell = makeCell(title);
    line.cells.push(cell);
    row.append(cell);
  }
  const act = makeCell("", "act"), open = makeButton("Details", "open", () => openDetails(line.lock));
  open.setAttribute("aria-label", `Details of ${describeKey(lock)}, held by ${lock.who}`);
  act.append(open);
  row.append(act);
  return line;
};

// Changes only the cells whose content differs, so that a selection and the focus stay.
const updateLine = (line, lock) => {
  // Events leave the other locks of the list as they are.
  if (line.lock === lock && line.shown.length) return;
  line.lock = lock;
  columns.forEach((column, at) => {
    const text = JSON.stringify(column.members(lock));
    if (line.shown[at] === text) return;
    line.shown[at] = text;
    const content = make("div"), nodes = column.show(lock);
    content.append(...nodes);
    line.cells[at].replaceChildren(...(nodes.length ? [content] : []));
  });
  showTimes(line.row, lock);
};

const compare = (one, other) => typeof one === "string" ? one.localeCompare(other, undefined, { numeric: true }) : one === other ? 0 : one < other ? -1 : 1;

const sort = (locks, { key, isDown }) => {
  const column = columns.find((one) => one.key === key);
  if (!column) return locks;
  const sign = isDown ? -1 : 1;
  return locks.map((lock) => [column.value(lock), lock]).sort(([one], [other]) => sign * compare(one, other)).map(([, lock]) => lock);
};

export const showLocks = (locks, order, openDetails) => {
  const rows = part("rows"), focused = document.activeElement, kept = new Set(locks.map((lock) => lock.id));
  for (const [id, { row }] of lines) if (!kept.has(id)) { row.remove(); lines.delete(id); }
  sort(locks, order).forEach((lock, at) => {
    let line = lines.get(lock.id);
    if (!line) lines.set(lock.id, line = makeLine(lock, openDetails));
    updateLine(line, lock);
    if (rows.children[at] !== line.row) rows.insertBefore(line.row, rows.children[at] || null);
  });
  // Moving a row removes the focus from it.
  if (rows.contains(focused)) focused.focus();
  part("table").hidden = !locks.length;
};

// Moves the focus to the next or the previous row. Above the first one is the filter.
export const moveFocus = (isDown) => {
  const buttons = [...part("rows").querySelectorAll("button.open")];
  const at = buttons.findIndex((one) => one.closest("tr").contains(document.activeElement));
  const next = isDown ? buttons[at + 1] : at > 0 ? buttons[at - 1] : part("filter");
  next?.focus();
  return !!next;
};

export const makeHeadings = (turn) => {
  const addOption = (value, text) => {
    const option = make("option", text);
    option.value = value;
    part("sort").append(option);
  };
  addOption("", "oldest first");
  for (const { key, title } of columns) {
    part("heads").append(makeHeading(key, makeButton(title, "plain", () => turn(key))));
    addOption(key, `${title} ↑`);
    addOption(`-${key}`, `${title} ↓`);
  }
  part("heads").append(makeHeading("act", make("span", "Details", "hidden")));
};

export const markOrder = ({ key, isDown }) => {
  for (const heading of part("heads").children) {
    if (heading.dataset.key && heading.dataset.key === key) heading.setAttribute("aria-sort", isDown ? "descending" : "ascending");
    else heading.removeAttribute("aria-sort");
  }
  part("sort").value = (isDown ? "-" : "") + key;
};
