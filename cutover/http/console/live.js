// Keeps the page up to date: by server-sent events, and by asking for the page while there are none.
//
// The stream is closed while nobody looks (a hidden tab): browsers open only a few connections to one address. Nothing is
// waited for without end: a daemon that hangs takes connections and says nothing.

const POLL = 5000;
const AGAIN = 30000;
const SILENCE = 16000; // the daemon's heart beats every 10 s
const DEADLINE = 5000;

export function follow(url, shown, said) {
  let source = null;
  let polling = 0;
  let again = 0;
  let watchdog = 0;
  let last = performance.now();
  let lost = false;
  let streamed = false; // whether this stream has brought anything: a proxy may hold all of it back

  function watch() {
    clearTimeout(watchdog);
    watchdog = setTimeout(silent, SILENCE);
  }

  function heard(kind, words) {
    last = performance.now();
    lost = false;
    said(kind, words);
  }

  function missed() {
    lost = true;
    said("lost", `nothing heard for ${Math.round((performance.now() - last) / 1000)} s: what you see is old`, true);
  }

  function silent() {
    if (streamed) missed();
    poll();
  }

  function stop() {
    if (source) source.close();
    source = null;
    for (const timer of [polling, again, watchdog]) clearTimeout(timer);
  }

  function listen() {
    stop();
    if (!url) {
      poll();
      return;
    }
    source = new EventSource(url);
    streamed = false;
    watch();
    source.addEventListener("beat", () => {
      watch();
      streamed = true;
      heard("live", "live");
    });
    source.addEventListener("page", (event) => {
      watch();
      streamed = true;
      if (shown(JSON.parse(event.data))) heard("live", "live");
      else missed();
    });
    source.addEventListener("bye", poll);
    source.addEventListener("error", poll);
  }

  async function poll() {
    stop();
    if (url) again = setTimeout(listen, AGAIN);
    await ask();
  }

  async function ask() {
    try {
      const answer = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(DEADLINE) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const page = await answer.text();
      if (source) return; // a stream came first, and what it says is newer
      // Somebody else may answer in the daemon's place, with a page of their own: a proxy that wants a login.
      if (!shown(page)) throw new Error("this is not the console");
      const back = lost;
      heard("polling", "refreshed every 5 s");
      if (back && streamed && !document.hidden) return listen();
    } catch {
      if (source) return;
      missed();
    }
    clearTimeout(polling);
    if (!source && !document.hidden) polling = setTimeout(ask, POLL);
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : listen()));
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => event.persisted && listen());
  listen();
  return { now: () => (source ? undefined : ask()) };
}
