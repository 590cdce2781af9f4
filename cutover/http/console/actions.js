// What can be done from here: each sends what the command line would send, to the same route, by the name of the token.

import { ask, askToken, choice, field, make } from "./dialog.js";
import { call, who } from "./session.js";

const main = () => document.getElementById("main");
const base = () => document.body.dataset.base;
const api = (path) => `${base()}/api/v1/${path}`;

const words = (text) => make("p", {}, text);
const facts = (rows) => make("dl", { class: "pairs" }, ...rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, make("bdi", {}, value)))));
const reason = () => field("reason", "Reason, for the record", { required: true, maxlength: "1000", "data-wrong": "A reason is needed." });

async function certified(hash) {
  const told = await call("GET", api(`phase/certificates/${hash}`));
  const bad = Object.entries(told.checks).filter(([, verdict]) => verdict !== "pass");
  const rows = [
    ["certificate", told.hash.slice(0, 12)],
    ["for the step", `${told.phase} → ${told.target}`],
    ["asked for by", told.requested_by],
    ["approved by", told.approvals.map((each) => each.approver).join(", ") || "nobody yet"],
    ["checks", `${Object.keys(told.checks).length - bad.length} pass${bad.length ? `; ${bad.map(([id, verdict]) => `${id}: ${verdict}`).join(", ")}` : ""}`],
    ["expires", new Date(told.expires_at).toLocaleString()],
  ];
  if (told.override) rows.push(["past a closed gate", told.override]);
  for (const each of told.loosened) rows.push(["loosened", each]);
  return { told, rows };
}

const ACTIONS = {
  async certify({ target, seen }, done) {
    const parts = [words(`The gate of ${target} is judged on fresh evidence. If it is open, a certificate is issued, which ${target === "A3" || target === "A4" ? "two other people must approve" : "a promotion can consume"}.`)];
    ask(`Certify ${target}`, parts, "Certify", async () => {
      const made = await call("POST", api("phase/certify"), { target });
      done(`Certificate ${made.hash.slice(0, 12)} for ${made.target} was issued.`);
    }, seen.epoch);
  },

  async approve({ certificate, target, seen, current }, done) {
    const { rows } = await certified(certificate);
    if (!current()) return;
    const parts = [words("You stand for what this certificate says, by name and for ever."), facts(rows)];
    ask(`Approve the step to ${target}`, parts, `Approve as ${who()}`, async () => {
      const made = await call("POST", api("phase/approve"), { certificate, name: who() });
      const lacking = made.approvals_missing;
      done(`Approved by ${who()}; ${lacking ? `${lacking} more needed` : "nobody else is needed"}.`);
    }, seen.epoch);
  },

  async promote({ target, certificate, seen, current }, done) {
    const parts = certificate ? [facts((await certified(certificate)).rows)] : [words(`The gate of ${target} is judged once more, and a certificate is issued and consumed on the way.`)];
    if (!current()) return;
    ask(`Promote to ${target}`, [...parts, reason()], `Promote to ${target}`, async (data) => {
      const body = { reason: data.get("reason"), target, expected_epoch: Number(seen.epoch) };
      if (certificate) body.certificate = certificate;
      const made = await call("POST", api("phase/promote"), body);
      done(`The tenant is in ${made.phase}; writes were held for ${Math.round(1000 * made.held_seconds)} ms.`);
    }, seen.epoch);
  },

  async rollback({ target, seen }, done) {
    const from = seen.phase;
    const parts = [
      words(from === "A3" ? "The journal is replayed into legacy, so nothing is lost; writes are held for a moment." : `The tenant goes back from ${from}. No gate stands before it.`),
      reason(),
      field("sure", `Type ${target} to go back to it`, { required: true, exactly: target, "data-wrong": "Type the phase to be sure." }),
    ];
    ask(`Roll back to ${target}`, parts, `Roll back to ${target}`, async (data) => {
      const made = await call("POST", api("phase/rollback"), { reason: data.get("reason"), target, expected_epoch: Number(seen.epoch) });
      done(`The tenant is back in ${made.phase}.`);
    }, seen.epoch);
  },

  async sweep(_, done) {
    const kinds = [
      ["count", "count: rows per side, and a cause for every difference"],
      ["digest", "digest: every memory that changed since the last one"],
      ["full", "digest, full: every memory"],
      ["recall", "recall: what both stores answer to recent reads"],
    ];
    ask("Start a sweep", [choice("kind", "What is compared", kinds)], "Start", async (data) => {
      const kind = String(data.get("kind"));
      const made = await call("POST", api("sweeps"), kind === "full" ? { kind: "digest", full: true } : { kind });
      done(made.outcome ? `The ${kind} sweep came to: ${made.outcome}.` : "The digest sweep has begun.");
    });
  },

  pause: (_, done) => backfill("pause", "Pause the backfill", "It stays where it is until somebody resumes it, also over a restart.", "Pause", "The backfill is paused.", done),
  resume: (_, done) => backfill("resume", "Resume the backfill", "It goes on where it was.", "Resume", "The backfill goes on.", done),
  abort: (_, done) => backfill("abort", "Abort the backfill", "It ends where it is. The next start goes on from there.", "Abort the backfill", "The backfill was ended.", done),
};

async function backfill(verb, title, what, doing, told, done) {
  ask(title, [words(what)], doing, async () => {
    await call("POST", api(`backfill/${verb}`), {});
    done(told);
  });
}

let latest = 0;

export function begin(button, done) {
  const act = ACTIONS[button.dataset.act];
  const mine = ++latest;
  const { epoch, phase } = main().dataset;
  // `seen`: what the page said when the button was pressed. That is what is confirmed, whatever the page says later.
  // `current`: no other button was pressed while something was looked up.
  const given = { ...button.dataset, seen: { epoch, phase }, current: () => mine === latest };
  if (who()) return act(given, done);
  return askToken(base(), () => act(given, done));
}
