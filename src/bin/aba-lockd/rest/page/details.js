// The dialog with all facts about one lock, in which it can be unlocked.

import { copyText, formatSpan, formatTime, formatTtl, make, makeButton, part, showNotice, write } from "./dom.js";
import { describeKey, describeMode, list, listSharers } from "./list.js";
import { call, readClock } from "./service.js";

let lock = null, isHeld = false, isUnlocking = false;

const formatAge = (time) => formatSpan((readClock() - Date.parse(time)) / 1000);

const describeEnd = () => {
  if (!lock.expiresAt) return "when it is unlocked";
  const left = (Date.parse(lock.expiresAt) - readClock()) / 1000;
  return `${left > 0 ? `in ${formatSpan(left)}` : "now"}, at ${formatTime(lock.expiresAt)} (TTL ${formatTtl(lock.ttl)})`;
};

const describeSharers = () => listSharers(lock).map((other) => other.who + (other.slot ? ` (slot ${other.slot})` : "")).join(", ");

// Lines of a text are items of a list.
const describeQueue = () => (lock.queue || []).map((one, at) => `${at + 1}. ${one.who}${one.mode || one.slots ? ` (${one.mode || "slot"})` : ""}, for ${formatAge(one.since)}`).join("\n");

const facts = [
  ["Owner", () => lock.who],
  ["Service", () => lock.service],
  ["Environment", () => lock.environment],
  ["Resource", () => lock.resource],
  ["Mode", () => describeMode(lock)],
  ["Also held by", describeSharers],
  ["Event", () => lock.eventId],
  ["Held for", () => `${formatAge(lock.createdAt)}, since ${formatTime(lock.createdAt)}`],
  ["Ends", describeEnd],
  ["Waiting", describeQueue],
  ["Fencing token", () => String(lock.fencingToken)],
  ["Id", () => lock.id],
];
const places = new Map();

const makeFacts = () => {
  for (const [name] of facts) {
    const line = make("div"), value = make("dd"), text = make("span");
    value.append(text);
    if (name === "Id") {
      text.className = "id";
      const copy = makeButton("Copy", "link copy", () => copyText(text, copy));
      copy.setAttribute("aria-label", "Copy the id");
      value.append(" ", copy);
    }
    line.append(make("dt", name), value);
    part("facts").append(line);
    places.set(name, text);
  }
};

// Writes the facts again, because times pass and the lock may have changed.
export const updateDetails = () => {
  if (!lock || !part("details").open) return;
  const now = list.locks.concat(list.found?.locks || []).find((other) => other.id === lock.id);
  // If the service has more locks than the page has read, a missing lock may still be held.
  isHeld = !!now || list.stale || list.total > list.locks.length;
  lock = now || lock;
  write(part("details-title"), describeKey(lock));
  for (const [name, describe] of facts) {
    const text = describe() || "";
    write(places.get(name), text);
    places.get(name).closest("div").hidden = !text;
  }
  part("gone").hidden = isHeld;
  part("ask").setAttribute("aria-disabled", String(!isHeld || list.stale));
  part("go").setAttribute("aria-disabled", String(!isHeld || list.stale || isUnlocking));
  if (part("sure").hidden) return;
  write(part("sure-title"), `Unlock the lock of ${lock.who}?`);
  const next = lock.queue ? ` ${lock.queue[0].who} is next.` : "";
  write(part("sure-what"), `${lock.who} has held ${describeKey(lock)} for ${formatAge(lock.createdAt)}, may still be working, and is not notified.${next}`);
};

const showQuestion = (isShown) => {
  part("sure").hidden = !isShown;
  part("actions").hidden = isShown;
  part("refusal").hidden = true;
  part("sure-rule").hidden = false;
  part("secret-part").hidden = true;
  part("secret").value = "";
  updateDetails();
  part(isShown ? "keep" : "ask").focus();
};

export const openDetails = (chosen) => {
  lock = chosen;
  part("details").showModal();
  showQuestion(false);
  part("close").focus();
};

export const closeDetails = () => part("details").close();

const refuse = (error) => {
  const reason = {
    refused: `${error.message}. Only the owner's token, a token with lock:admin, or the secret of the lock can unlock it.`,
    offline: "the service did not answer, so it is unknown whether the lock is still held.",
  }[error.kind] || `${error.message}.`;
  part("refusal").textContent = `${describeKey(lock)} was not unlocked: ${reason}`;
  part("refusal").hidden = false;
  part("secret-part").hidden = error.kind !== "refused";
  part("sure-rule").hidden = true;
  part("go").scrollIntoView({ block: "nearest" });
};

const unlock = async (refresh) => {
  if (part("go").getAttribute("aria-disabled") === "true") return;
  const chosen = lock, name = describeKey(lock);
  isUnlocking = true;
  updateDetails();
  try {
    await call("DELETE", `lock/${encodeURIComponent(chosen.id)}`, { secret: part("secret").value.trim() });
    closeDetails();
    showNotice(`${name}, held by ${chosen.who}, was unlocked.`);
  } catch (error) {
    if (error.kind === "gone") {
      closeDetails();
      showNotice(`${name} was not held by ${chosen.who} any more: the lock was released, or it has expired.`);
    } else if (error.kind === "token") {
      closeDetails();
    } else {
      refuse(error);
    }
  }
  isUnlocking = false;
  updateDetails();
  await refresh();
};

// `refresh` reads the list again, and `showHistory` shows the history of a service.
export const startDetails = (refresh, showHistory) => {
  makeFacts();
  part("close").addEventListener("click", closeDetails);
  part("ask").addEventListener("click", () => { if (part("ask").getAttribute("aria-disabled") !== "true") showQuestion(true); });
  part("keep").addEventListener("click", () => showQuestion(false));
  part("sure").addEventListener("submit", (event) => { event.preventDefault(); unlock(refresh); });
  part("its-history").addEventListener("click", () => { closeDetails(); showHistory(lock.service); });
  // Escape first leaves the question, and then closes the dialog.
  part("details").addEventListener("cancel", (event) => {
    if (part("sure").hidden) return;
    event.preventDefault();
    showQuestion(false);
  });
  part("details").addEventListener("close", () => {
    // The row may have gone, and the focus with it.
    if (document.activeElement === document.body) part("filter").focus();
  });
  // A click next to the dialog closes it. The margin inside of it belongs to the dialog, too.
  part("details").addEventListener("pointerdown", ({ clientX, clientY, target }) => {
    const { left, right, top, bottom } = part("details").getBoundingClientRect();
    const isInside = clientX >= left && clientX <= right && clientY >= top && clientY <= bottom;
    if (target === part("details") && !isInside) closeDetails();
  });
};
