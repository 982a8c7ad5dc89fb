// Follows the events of the service. EventSource cannot send a token, so this reads the stream of a fetch.
//
// The stream begins with the event `reset`, after which the page reads the list. The page also reads it now and then while the
// stream lasts. If there is no stream, because a proxy holds it back or too many clients read it, the page reads the list every
// few seconds.

import { send } from "./service.js";

// Milliseconds without any data, after which the stream is opened again. The service sends a comment every 15 seconds.
const silence = 25000;
// The shortest and the longest pause between two attempts, in milliseconds.
const pauses = [1000, 60000];

// Reads events until the stream ends. `onData` is called for each part that arrives.
const readEvents = async (body, onData, onEvent) => {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onData();
    const blocks = (text + value).replaceAll("\r", "").split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const read = (name) => block.split("\n").filter((line) => line.startsWith(name)).map((line) => line.slice(name.length).trim()).join("\n");
      const kind = read("event:"), data = read("data:");
      if (data) onEvent(kind, JSON.parse(data));
    }
  }
};

// `onLive` is called with true when the first data arrives, and with false when the stream ends; `onEvent` with the type and
// the data of each event.
export const makeStream = (onLive, onEvent) => {
  let stopper = null, timer = 0, failures = 0;

  const run = async () => {
    timer = 0;
    const own = stopper = new AbortController();
    const begun = Date.now();
    let isLive = false, watch = 0;
    const heard = () => {
      clearTimeout(watch);
      watch = setTimeout(() => own.abort(), silence);
    };
    heard();
    try {
      const answer = await send("GET", "locks/events", { signal: own.signal });
      if (!(answer.headers.get("content-type") || "").startsWith("text/event-stream")) throw new TypeError("not a stream");
      await readEvents(answer.body, () => {
        heard();
        if (!isLive && stopper === own) onLive(isLive = true);
      }, (kind, data) => { if (stopper === own) onEvent(kind, data); });
    } catch (error) {
      // The next attempt follows below. Without this path, only another version of the service helps.
      if (error.kind === "gone") failures = 6;
    }
    clearTimeout(watch);
    own.abort();
    if (stopper !== own) return;
    stopper = null;
    if (isLive) onLive(false);
    if (isLive && Date.now() - begun > pauses[1]) failures = 0;
    // Random, so that the pages do not all return to a service at the moment of its restart.
    const pause = Math.min(pauses[1], pauses[0] * 2 ** failures++);
    timer = setTimeout(run, pause * (0.5 + Math.random() / 2));
  };

  const stop = () => {
    clearTimeout(timer);
    timer = 0;
    const old = stopper;
    stopper = null;
    old?.abort();
    onLive(false);
  };
  // Opens the stream, unless it is open or an attempt is planned. `isNew`: the service has just begun to answer, so this
  // attempt does not wait.
  const start = (isNew) => {
    if (stopper || timer && !isNew) return;
    clearTimeout(timer);
    failures = 0;
    run();
  };
  return { start, stop };
};
