// Elements of the page, and the texts of times in them. This module knows nothing about locks.

export const part = (id) => document.getElementById(id);

export const make = (name, text, kind) => {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
};

export const makeButton = (text, kind, act) => {
  const button = make("button", text, kind);
  button.type = "button";
  button.addEventListener("click", act);
  return button;
};

// Changes a text only if it differs, so that a selection stays, and a screen reader does not repeat the text.
export const write = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

export const showNotice = (text) => {
  write(part("notice-text"), text || "");
  part("notice").hidden = !text;
};

// Formats a number of seconds with its two largest units.
export const formatSpan = (seconds) => {
  let rest = Math.max(0, Math.floor(seconds));
  const said = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
    const number = Math.floor(rest / size);
    rest -= number * size;
    if (number || unit === "s" && !said.length) said.push(number + unit);
    if (said.length === 2) break;
  }
  return said.join(" ");
};

// Formats a time to live, which the service sends as seconds: `3600s`.
export const formatTtl = (text) => /^\d+s$/.test(text) ? formatSpan(parseInt(text, 10)) : text;

const sameDay = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const otherDay = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

// Formats a time of the service in the time zone of the browser, with the date if it is not today.
export const formatTime = (time) => {
  const date = new Date(time);
  const isToday = date.toDateString() === new Date().toDateString();
  return (isToday ? sameDay : otherDay).format(date);
};

// Makes a line about a time. The time as the service has sent it, in UTC, is the tooltip.
export const makeTimeLine = (text, time) => {
  const line = make("div", text, "soft");
  line.title = time;
  return line;
};

// Returns the lines whose rows are on the screen: a text that changes each second costs much in hundreds of rows.
export const selectVisible = (lines) => [...lines].filter(({ row }) => {
  const { top, bottom } = row.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
});

// Makes a table cell. On a narrow screen, the name stands before the content instead of the heading.
export const makeCell = (name, kind) => {
  const cell = make("td", undefined, kind);
  cell.setAttribute("role", "cell");
  cell.dataset.name = name;
  return cell;
};

export const makeHeading = (key, content) => {
  const heading = make("th");
  heading.scope = "col";
  heading.setAttribute("role", "columnheader");
  if (key) heading.dataset.key = key;
  heading.append(content);
  return heading;
};

// Copies the text of an element. Without a secure connection, the browser has no clipboard for scripts, but it copies a
// selection. If it refuses that as well, the text stays selected.
export const copyText = async (element, button) => {
  let done = true;
  try {
    await navigator.clipboard.writeText(element.textContent);
  } catch {
    getSelection().selectAllChildren(element);
    done = document.execCommand("copy");
  }
  write(button, done ? "Copied" : "Selected");
  write(part("said"), done ? "The id was copied." : "The id is selected, and was not copied.");
  setTimeout(() => { write(button, "Copy"); write(part("said"), ""); }, 2000);
};
