// The page: its views, its address, the keyboard, and the states in which the service can be.

import { makeHeadings, markOrder, moveFocus, showLocks, sortKeys, tick } from "./table.js";
import { closeDetails, openDetails, startDetails, updateDetails } from "./details.js";
import { countHistory, readHistory, readOlder, startHistory, tickHistory } from "./history.js";
import { applyEvent, isPartial, list, readList, selectLocks, splitWords } from "./list.js";
import { dropToken, keepToken, readToken } from "./service.js";
import { formatTime, part, showNotice, write } from "./dom.js";
import { makeStream } from "./stream.js";

// Milliseconds between two reads of the list: without events, and with them.
const [often, seldom] = [3000, 30000];
// The shortest time between two reads because of events, in milliseconds.
const shortest = 500;

const order = { key: "", isDown: false };
// `state`: `start`, `ready`, `offline`, `failed`, `token` or `refused`.
// `gate`: `needed` if the page asks for a token because it has no other choice, `chosen` if the user wants to replace a token.
let state = "start", gate = "", isEntering = false;
let isLive = false, isLoading = false, isAgain = false, readAt = 0, readTime = 0, planned = 0, drawn = 0, isHistory = false;

const words = () => splitWords(part("filter").value);

// The view, the filter and the order are in the address, so that it can be saved and shared.
const writeAddress = (isNew) => {
  const query = new URLSearchParams(), text = part("filter").value.trim(), service = part("service").value.trim();
  if (isHistory) query.set("view", "history");
  if (isHistory && service) query.set("service", service);
  if (text) query.set("q", text);
  if (order.key && !isHistory) query.set("sort", (order.isDown ? "-" : "") + order.key);
  const address = location.pathname + (String(query) && `?${query}`);
  if (isNew) history.pushState(null, "", address); else history.replaceState(null, "", address);
};

const setOrder = (text) => {
  const key = text.replace(/^-/, "");
  order.key = sortKeys.includes(key) ? key : "";
  order.isDown = order.key !== "" && text.startsWith("-");
  markOrder(order);
};

const readAddress = () => {
  const query = new URLSearchParams(location.search);
  isHistory = query.get("view") === "history";
  part("filter").value = query.get("q") || "";
  part("service").value = query.get("service") || "";
  setOrder(query.get("sort") || "");
};

const showState = () => {
  const asOf = list.asOf ? ` The page shows the locks as of ${formatTime(list.asOf)}.` : "";
  document.body.dataset.state = state;
  document.body.classList.toggle("stale", list.stale);
  const text = { start: "Connecting …", ready: isLive ? "Live" : "Every 3 s", offline: "Offline: trying again …", failed: "Trying again …" }[state] || "";
  write(part("state"), text);
  part("state").title = state !== "ready" ? "" : isLive ? "The service reports each change." : "The page gets no events, so it reads the list every 3 seconds.";
  const problem = state === "offline" ? `The service does not answer.${asOf} Nothing can be unlocked here until it does.` : state === "failed" ? part("problem").dataset.text + asOf : "";
  write(part("problem"), problem);
  part("problem").hidden = !problem;
  part("other-token").hidden = gate !== "" || !readToken();
  part("gate").hidden = gate === "";
  part("keep-token").hidden = gate !== "chosen";
  const hasNothing = gate !== "" || !list.asOf;
  part("tools").hidden = hasNothing;
  part("held").hidden = hasNothing || isHistory;
  part("history").hidden = hasNothing || !isHistory;
};

const show = () => {
  showState();
  const { locks, count, isSearching } = selectLocks(words());
  part("service-part").hidden = !isHistory;
  part("sort-part").classList.toggle("unused", isHistory);
  for (const [link, isCurrent] of [["to-locks", !isHistory], ["to-history", isHistory]]) {
    if (isCurrent) part(link).setAttribute("aria-current", "page"); else part(link).removeAttribute("aria-current");
  }
  showLocks(locks, order, openDetails);
  part("none").hidden = locks.length > 0;
  write(part("none-text"), !list.total ? "Nothing is locked." : isSearching ? "Searching …" : "No lock contains all these words.");
  part("clear").hidden = !list.total || isSearching;
  const text = isHistory ? countHistory() : list.asOf ? count + (list.stale ? `, as of ${formatTime(list.asOf)}` : "") : "";
  write(part("count"), text);
  document.title = list.asOf && state === "ready" ? `Locks (${list.total})` : "Locks";
  updateDetails();
};

const askForToken = (reason, title, why) => {
  closeDetails();
  const isNew = gate === "";
  gate = reason;
  write(part("gate-title"), title);
  write(part("gate-why"), why);
  showState();
  if (isNew) part("token").focus();
};

// Closes the question for a token after it was answered.
const closeGate = () => {
  if (gate === "chosen" && !isEntering) return;
  const wasOpen = gate !== "";
  gate = "";
  showState();
  if (wasOpen) part("filter").focus();
};

const handleFailure = (error) => {
  list.stale = true;
  if (error.kind === "token") {
    const hadToken = !!readToken(), isFirst = state !== "token";
    dropToken();
    stream.stop();
    state = "token";
    if (hadToken) askForToken("needed", "Unknown token", "The service refused the token. It may be mistyped, or replaced by a new one.");
    else if (isFirst) askForToken("needed", "Token required", "Enter a token of the token file of this service.");
  } else if (error.kind === "refused") {
    state = "refused";
    askForToken("needed", "No permission", `The service refused: ${error.message}.`);
  } else {
    state = error.kind === "offline" ? "offline" : "failed";
    part("problem").dataset.text = isHistory && error.kind === "gone" ? "This service has no history." : error.message;
    if (isEntering) closeGate();
  }
};

// Reads what the view shows.
const refresh = async () => {
  if (isLoading) { isAgain = true; return; }
  isLoading = true;
  const begun = Date.now();
  try {
    await readList(words());
    if (isHistory) await readHistory(words(), part("service").value.trim());
    const isNew = state !== "ready";
    state = "ready";
    closeGate();
    stream.start(isNew);
  } catch (error) {
    handleFailure(error);
  } finally {
    isLoading = isEntering = false;
    readAt = Date.now();
    readTime = readAt - begun;
  }
  show();
  if (isAgain) { isAgain = false; await refresh(); }
};

// Shows the changes of many events at once. A long table takes longer, and is shown less often.
const showSoon = () => { drawn ||= setTimeout(() => { drawn = 0; show(); }, Math.max(100, list.locks.length / 4)); };

// Reads soon. Many events in a short time lead to one read, and a slow service is asked less often.
const refreshSoon = () => {
  if (planned || document.hidden) return;
  const pause = Math.max(shortest, 4 * readTime) - (Date.now() - readAt);
  planned = setTimeout(() => { planned = 0; refresh(); }, Math.max(0, pause));
};

const stream = makeStream((isNow) => {
  if (isLive === isNow) return;
  isLive = isNow;
  // Changes before the beginning of the stream are not among its events, and its end may be that of the service.
  if (state === "ready") { showState(); refreshSoon(); }
}, (kind, data) => {
  if (applyEvent(kind, data)) showSoon(); else refreshSoon();
  if (isHistory && (kind === "released" || kind === "expired")) refreshSoon();
});

const turnOrder = (key) => {
  // The first click sorts, the second reverses the order, and the third restores the order of the service.
  setOrder(order.key !== key ? key : order.isDown ? "" : `-${key}`);
  writeAddress();
  show();
};

const setView = (toHistory) => {
  isHistory = toHistory;
  writeAddress(true);
  show();
  refresh();
};

let typed = 0;
const applyFilter = () => {
  writeAddress();
  show();
  clearTimeout(typed);
  // The service is asked when the user has paused typing.
  if (isHistory || words().length && isPartial()) typed = setTimeout(refresh, 250);
};
const clearFilter = () => { part("filter").value = ""; applyFilter(); part("filter").focus(); };

const enterToken = (event) => {
  event.preventDefault();
  const token = part("token").value.trim();
  if (!token) return;
  part("token").value = "";
  // Other characters cannot be sent in a header, so no token has them.
  if (!/^[\x21-\x7e]+$/.test(token)) {
    askForToken("needed", "Unknown token", "A token has only ASCII letters, digits and punctuation.");
    return;
  }
  keepToken(token);
  stream.stop();
  isEntering = true;
  showNotice("");
  refresh();
};

for (const [link, toHistory] of [["to-locks", false], ["to-history", true]]) {
  part(link).addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (isHistory !== toHistory) setView(toHistory);
  });
}
addEventListener("popstate", () => { readAddress(); show(); refresh(); });
part("gate").addEventListener("submit", enterToken);
part("keep-token").addEventListener("click", () => { gate = ""; show(); part("other-token").focus(); });
part("other-token").addEventListener("click", () => askForToken("chosen", "Another token", "The page then uses it instead of the present one."));
part("dismiss").addEventListener("click", () => { showNotice(""); part("filter").focus(); });
part("filter").addEventListener("input", applyFilter);
part("service").addEventListener("input", applyFilter);
part("clear").addEventListener("click", clearFilter);
part("older").addEventListener("click", () => readOlder().catch(handleFailure).then(show));
part("sort").addEventListener("change", () => { setOrder(part("sort").value); writeAddress(); show(); });
document.addEventListener("keydown", (event) => {
  const target = event.target, isTyping = target instanceof HTMLInputElement;
  if (document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && !isTyping && !part("tools").hidden) {
    event.preventDefault();
    part("filter").focus();
  } else if (event.key === "Escape" && target === part("filter")) {
    clearFilter();
  } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && !(target instanceof HTMLSelectElement) && !isHistory) {
    if (moveFocus(event.key === "ArrowDown")) event.preventDefault();
  }
});
// A page that is not visible needs neither events nor reads, and its connection is one of the few that a browser opens.
addEventListener("online", refresh);
document.addEventListener("visibilitychange", () => { if (document.hidden) stream.stop(); else refresh(); });
setInterval(() => {
  if (document.hidden) return;
  tick();
  tickHistory();
  updateDetails();
  const pause = state === "ready" && isLive || state === "refused" ? seldom : often;
  if (state !== "token" && Date.now() - readAt >= pause) refresh();
}, 1000);

startDetails(refresh, (service) => { part("service").value = service; part("filter").value = ""; setView(true); });
startHistory();
makeHeadings(turnOrder);
readAddress();
show();
refresh();
