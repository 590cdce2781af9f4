// The one dialog: what is about to happen, what it needs, and what became of it. All text is set as text.

import { Trouble, signIn, who } from "./session.js";

export function make(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(given)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== undefined && value !== null && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const title = make("h2", { id: "ask-title", tabindex: "-1" });
const body = make("div", { class: "body" });
const trouble = make("div", { class: "trouble", role: "alert" });
const go = make("button", { type: "submit", class: "strong" });
const cancel = make("button", { type: "button" }, "Cancel");
const form = make("form", { novalidate: true }, title, body, trouble, make("div", { class: "row" }, cancel, go));
const dialog = make("dialog", { id: "ask", "aria-labelledby": "ask-title" }, form);

let submit = async () => {};
let epoch; // the one that the open dialog is about; undefined: it is about none
let ticket = 0; // each opening has its own: what becomes of one is not shown in another
let late = () => {};

// Who is told of a trouble whose dialog is gone.
export const onLate = (listener) => (late = listener);

const busy = () => dialog.hasAttribute("aria-busy");

cancel.addEventListener("click", () => dialog.close());
dialog.addEventListener("cancel", (event) => {
  // What was sent goes on, and its outcome must be seen.
  if (busy()) event.preventDefault();
});
dialog.addEventListener("close", () => {
  if (dialog.open) return; // it was opened again before this was told
  ticket += 1;
  epoch = undefined;
  // A token that was typed and not sent is not kept in the page either.
  body.replaceChildren();
  trouble.replaceChildren();
});
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const wrong = [...form.elements].find((each) => each.willValidate && !each.checkValidity());
  if (wrong) {
    wrong.setAttribute("aria-invalid", "true");
    show(new Trouble(wrong.dataset.wrong || "Something is missing.", wrong.labels[0]?.textContent || "", ""));
    wrong.focus();
    return;
  }
  const mine = ticket;
  const data = new FormData(form);
  trouble.replaceChildren();
  hold(true);
  try {
    await submit(data, () => mine === ticket);
    if (mine === ticket) dialog.close();
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    if (mine === ticket) show(error);
    else late(error);
  } finally {
    if (mine === ticket) hold(false);
  }
});

function hold(on) {
  go.disabled = cancel.disabled = on;
  if (on) dialog.setAttribute("aria-busy", "true");
  else dialog.removeAttribute("aria-busy");
  // What is disabled loses the focus, and a keyboard would be nowhere.
  if (!on && dialog.open && !dialog.contains(document.activeElement)) go.focus();
}

// The page has come to tell of another epoch than the one that the open dialog was made for: nobody has looked at that.
export function moved(now, phase) {
  if (!dialog.open || go.disabled || epoch === undefined || now === epoch) return;
  const where = phase ? `It is in ${phase} now, epoch ${now}.` : "Its phase is not confirmed now.";
  show(new Trouble("The tenant changed meanwhile.", `${where} Nothing was sent. Cancel, and look at the page again.`, ""));
  go.disabled = true;
}

function show(error) {
  const told = [make("p", {}, make("strong", {}, error.message)), make("p", {}, error.why)];
  if (error.checks.length) told.push(make("ul", {}, ...error.checks.map((each) => make("li", {}, `${each.id}: ${each.reason}`))));
  if (error.next) told.push(make("p", {}, "Next: ", make("code", {}, error.next)));
  trouble.replaceChildren(...told);
}

export function field(name, label, given = {}, hint = "") {
  const id = `ask-${name}`;
  const about = hint ? `${id}-hint` : undefined;
  const tag = given.type === "textarea" ? "textarea" : "input";
  const rest = { ...given, type: tag === "input" ? given.type : undefined };
  const input = make(tag, { id, name, autocomplete: "off", spellcheck: "false", "aria-describedby": about, ...rest });
  input.addEventListener("input", () => input.removeAttribute("aria-invalid"));
  if (given.exactly) {
    input.addEventListener("input", () => input.setCustomValidity(input.value === given.exactly ? "" : "not the same"));
    input.setCustomValidity("not the same");
  }
  return make("p", { class: "field" }, make("label", { for: id }, label), input, hint ? make("small", { id: about }, hint) : null);
}

export function choice(name, label, options) {
  const id = `ask-${name}`;
  const list = make("select", { id, name }, ...options.map(([value, words]) => make("option", { value }, words)));
  return make("p", { class: "field" }, make("label", { for: id }, label), list);
}

function open(words, parts, doing, then, about) {
  ticket += 1;
  epoch = about;
  title.textContent = words;
  body.replaceChildren(...parts);
  trouble.replaceChildren();
  go.textContent = doing;
  submit = then;
  hold(false); // one step may open the next: what is disabled takes no focus
  if (!dialog.isConnected) document.body.append(dialog);
  if (!dialog.open) dialog.showModal();
  (body.querySelector("input, textarea, select") || go).focus();
  const shown = document.getElementById("main").dataset;
  moved(shown.epoch, shown.phase);
}

export const close = () => dialog.close();

export function askToken(base, then) {
  const words = "Sign in with your admin token";
  const why = make("p", {}, "The daemon puts down what you do by the name of your token. It stays in this page's memory and is gone when you leave.");
  const given = { type: "password", required: true, "data-wrong": "The token is missing." };
  open(words, [why, field("token", "Admin token", given)], "Sign in", async (data, still) => {
    await signIn(base, String(data.get("token")).trim());
    if (still()) await then();
  });
}

// `about`: the epoch that was shown, where the action is about it.
export function ask(words, parts, doing, then, about) {
  const as = make("p", { class: "as" }, "Acting as ", make("strong", {}, make("bdi", {}, who())));
  open(words, [...parts, as], doing, then, about);
}
