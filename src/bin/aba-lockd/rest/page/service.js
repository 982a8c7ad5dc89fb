// Calls of the REST API, the token of this browser tab, and the clock of the service.

const root = new URL("api/v1alpha1/", document.baseURI);

// Milliseconds that the service may take to answer. After that, it is treated as offline.
const patience = 10000;

// The clock of the service minus that of the browser, in milliseconds.
let ahead = 0;

// The current time of the service: ages are computed with its clock.
export const readClock = () => Date.now() + ahead;

// An error of a call. `kind` is `offline` (no answer), `token` (missing or unknown), `refused` (no permission), `gone` (no
// such lock), `absent` (no such path) or `failed`.
export class CallError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

export const readToken = () => sessionStorage.getItem("token");
export const keepToken = (token) => sessionStorage.setItem("token", token);
export const dropToken = () => sessionStorage.removeItem("token");

const kinds = { 401: "token", 403: "refused", 404: "gone" };

// Sends a request. Returns the answer if its status is a success, and throws a `CallError` otherwise.
export const send = async (method, path, { secret, signal } = {}) => {
  const headers = {}, token = readToken();
  if (token) headers.Authorization = `Bearer ${token}`;
  if (secret) headers["X-Lock-Secret"] = secret;
  let answer;
  try {
    answer = await fetch(new URL(path, root), { method, headers, cache: "no-store", signal: signal || AbortSignal.timeout(patience) });
  } catch {
    throw new CallError("offline", "The service does not answer.");
  }
  const date = Date.parse(answer.headers.get("date"));
  if (date) ahead = date - Date.now();
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new CallError(kinds[answer.status] || "failed", body.message || `The service answered with status ${answer.status}.`);
};

// Sends a request. Returns the JSON object of the answer.
export const call = async (method, path, options) => {
  const answer = await send(method, path, options);
  try {
    return await answer.json();
  } catch (error) {
    // A proxy may answer with a page of its own, and a connection may end in the middle.
    throw error instanceof SyntaxError ? new CallError("failed", "The answer is not JSON.") : new CallError("offline", "The service does not answer.");
  }
};
