// The page's script. What is shown comes whole from the daemon; this keeps it current and makes the buttons work.

import { begin } from "./actions.js";
import { askToken, close, moved, onLate } from "./dialog.js";
import { follow } from "./live.js";
import { morph } from "./morph.js";
import { Trouble, forget, onChange, who } from "./session.js";

const said = document.getElementById("said");
const link = document.getElementById("link");
const session = document.getElementById("session");
let again = 0;

function say(words) {
  if (!words) return;
  said.textContent = "";
  // A live region is read when it changes; the same words twice must be heard twice.
  requestAnimationFrame(() => (said.textContent = words));
}

// Whether `text` was a page of ours.
function shown(text) {
  const main = document.getElementById("main");
  const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("main");
  if (fresh?.dataset.spoken === undefined) return false;
  const before = main.dataset.spoken;
  const focused = document.activeElement;
  morph(main, fresh);
  if (main.dataset.spoken !== before) say(main.dataset.spoken);
  if (focused && focused !== document.body && !focused.isConnected) main.focus({ preventScroll: true });
  moved(main.dataset.epoch, main.dataset.phase);
  return true;
}

function state(kind, words, loud = false) {
  const changed = link.className !== `link ${kind}`;
  if (changed) link.className = `link ${kind}`;
  if (link.textContent !== words) link.textContent = words;
  document.body.toggleAttribute("data-lost", kind === "lost");
  if (changed && loud) say(words);
}

function done(words) {
  say(words);
  const note = document.getElementById("note");
  note.textContent = words;
  note.hidden = false;
  clearTimeout(again);
  again = setTimeout(() => (note.hidden = true), 12000);
  setTimeout(live.now, 300);
}

function refused(error) {
  if (!(error instanceof Trouble)) throw error;
  done([error.message, error.why, error.next && `Next: ${error.next}`].filter(Boolean).join(" "));
}

onLate(refused);

onChange((name) => {
  if (!session) return;
  session.replaceChildren(name ? "Signed in as " : "Sign in…");
  if (name) session.append(Object.assign(document.createElement("bdi"), { textContent: name }), " · forget");
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (button) Promise.resolve(begin(button, done)).catch(refused);
});

session?.addEventListener("click", () => {
  if (who()) {
    forget();
    done("Signed out: the token is forgotten.");
  } else {
    askToken(document.body.dataset.base, () => {
      close();
      say(`Signed in as ${who()}.`);
    });
  }
});

const note = Object.assign(document.createElement("p"), { id: "note", className: "note", hidden: true });
document.querySelector("header").after(note);
document.documentElement.dataset.live = "";
const live = follow(document.body.dataset.events, shown, state);
