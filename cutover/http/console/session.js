// Who acts: a token that is asked for, sent in a header, and kept in this module's memory only. It is in no storage, no
// cookie and no address; it is gone with the page, when it is refused, and after a quarter of an hour without use.

const IDLE = 15 * 60 * 1000;
const READING = 10000;
const CHANGING = 120000; // a step waits for what is under way

let token = "";
let name = "";
let timer = 0;
const listeners = [];

export const who = () => name;
export const onChange = (listener) => listeners.push(listener);

function tell() {
  for (const listener of listeners) listener(name);
}

function used() {
  clearTimeout(timer);
  if (token) timer = setTimeout(forget, IDLE);
}

export function forget() {
  token = "";
  name = "";
  used();
  tell();
}

export class Trouble extends Error {
  // What is wrong, why, and what to do next; `checks` are those that close a gate.
  constructor(what, why, next, checks = []) {
    super(what);
    this.why = why;
    this.next = next;
    this.checks = checks;
  }
}

export async function call(method, path, body, offered = token) {
  used();
  const headers = { Accept: "application/json" };
  if (offered) headers.Authorization = `Bearer ${offered}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  let told;
  try {
    const signal = AbortSignal.timeout(method === "GET" ? READING : CHANGING);
    answer = await fetch(path, { method, headers, signal, cache: "no-store", body: body === undefined ? body : JSON.stringify(body) });
    told = await answer.json();
  } catch {
    throw new Trouble(
      "The daemon did not answer.",
      "It is stopped, or cannot be reached from here. What you asked for may have been done all the same.",
      "Look at the page again before you repeat it; cutover healthcheck says whether the daemon runs.",
    );
  }
  if (answer.ok) return told;
  if (answer.status === 401 && offered === token) forget();
  const what = { 401: "The token was not taken.", 403: "You may not do that.", 409: "Not now." }[answer.status];
  throw new Trouble(what || `The daemon refused (${answer.status}).`, told.error || "", told.next || "", told.checks || []);
}

export async function signIn(base, offered) {
  if (!/^[\x21-\x7e]+$/.test(offered)) {
    const why = "It has a blank or a character outside of ASCII, which a browser cannot send in a header.";
    throw new Trouble("The token was not sent.", why, "copy the token once more, or use the command line");
  }
  const told = await call("GET", `${base}/api/v1/whoami`, undefined, offered);
  token = offered;
  name = told.name;
  used();
  tell();
  return name;
}
