// The live page: reads /live, shows it, and posts to /settings. See serve/app.py for what is on the wire.
"use strict";

const $ = (id) => document.getElementById(id);
const KEPT = 60_000;  // milliseconds of the latency curve
const SILENCE = 4_000;  // the server says something every second
const LINES = ["#36d399", "#60a5fa", "#f5b83d", "#f2637e", "#c084fc", "#2dd4bf"];

const tiles = new Map();  // number of the source -> its tile
const seen = new Map();  // label -> when it was last found
let settings = { score_threshold: 0.3, classes: null, paused: false };
let classes = [];  // {class_id, label, colour}, all that the model knows
let touched = 0;  // when the user last changed a setting: what the server said before that is old
let current = 0;  // number of the source under the pointer

// The stream

async function connect() {
  for (let wait = 300; ; wait = Math.min(wait * 1.7, 5_000)) {
    const stop = new AbortController();
    let alarm = setTimeout(() => stop.abort(), 10_000);
    try {
      const answer = await fetch("/live", { signal: stop.signal });
      if (answer.status === 401) {
        clearTimeout(alarm);
        await login();
        wait = 300;
        continue;
      }
      if (!answer.ok) throw new Error(answer.statusText);
      const state = await (await fetch("/state")).json();
      classes = state.classes;
      for (const [number, tile] of tiles)
        if (number >= state.sources.length) removeTile(number, tile);
      take({ settings: state.settings, source: null });
      for await (const [line, jpeg] of messages(answer.body.getReader())) {
        clearTimeout(alarm);
        alarm = setTimeout(() => stop.abort(), SILENCE);
        wait = 300;
        connected("live", "connected");
        take(line, jpeg);
      }
      connected("lost", "ended, trying again");
    } catch {
      connected("lost", "no connection, trying again");
    }
    clearTimeout(alarm);
    stop.abort();
    tiles.forEach((tile) => tile.status("OFFLINE", ""));
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

async function* messages(reader) {
  let held = new Uint8Array(0);
  for (;;) {
    while (held.length >= 8) {
      const view = new DataView(held.buffer, held.byteOffset);
      const [text, picture] = [view.getUint32(0), view.getUint32(4)];
      if (held.length < 8 + text + picture) break;
      const line = JSON.parse(new TextDecoder().decode(held.subarray(8, 8 + text)));
      yield [line, held.slice(8 + text, 8 + text + picture)];
      held = held.subarray(8 + text + picture);
    }
    const { done, value } = await reader.read();
    if (done) return;
    const joined = new Uint8Array(held.length + value.length);
    joined.set(held);
    joined.set(value, held.length);
    held = joined;
  }
}

function take(line, jpeg) {
  if (performance.now() - touched > 700) {
    settings = line.settings;
    showSettings();
  }
  if (line.source === null) return;
  const tile = tiles.get(line.source.number) ?? addTile(line.source);
  tile.take(line.source, jpeg);
}

function connected(state, text) {
  const pill = $("connection");
  if (pill.dataset.state === state && pill.textContent === text) return;
  pill.dataset.state = state;
  pill.textContent = text;
}

// One source

class Tile {
  constructor(number) {
    this.figure = $("tile").content.firstElementChild.cloneNode(true);
    this.canvas = this.figure.querySelector("canvas");
    this.number = number;
    this.record = null;
    this.next = null;  // the newest picture that came while another was decoded
    this.busy = false;
    this.drawn = [];  // when pictures were drawn lately
    this.curve = [];  // [when, milliseconds]
    this.events = 0;
    const snap = this.figure.querySelector(".snap");
    snap.href = `/snapshot/${number}.jpg`;
    this.figure.querySelector(".full").onclick = () => this.fullScreen();
    this.canvas.ondblclick = () => this.fullScreen();
    this.figure.onpointerenter = () => { current = number; };
  }

  take(record, jpeg) {
    const fresh = record.index !== this.record?.index;
    this.record = record;
    this.figure.querySelector("b").textContent = record.source;
    this.status(record.state, record.reason);
    if (fresh && record.age !== null) this.curve.push([performance.now(), record.latency * 1e3]);
    for (const label of Object.keys(record.counts)) seen.set(label, performance.now());
    for (const event of record.events ?? []) logEvent(event);
    if (jpeg.length) {
      this.next = jpeg;
      if (!this.busy) this.draw();
    }
  }

  status(state, reason) {
    this.figure.dataset.state = state;
    const words = { ONLINE: "", STALE: "No new picture", OFFLINE: "Offline" }[state];
    const why = this.figure.querySelector(".why");
    const text = words && reason ? `${words}\n${reason}` : words;
    if (why.textContent !== text) why.textContent = text;
  }

  async draw() {
    this.busy = true;
    while (this.next) {
      const jpeg = this.next;
      this.next = null;
      try {
        const picture = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
        if (this.canvas.width !== picture.width || this.canvas.height !== picture.height) {
          this.canvas.width = picture.width;
          this.canvas.height = picture.height;
        }
        this.canvas.getContext("2d", { alpha: false }).drawImage(picture, 0, 0);
        picture.close();
        this.drawn.push(performance.now());
      } catch {
        // a picture that this browser cannot decode: the next one will do
      }
    }
    this.busy = false;
  }

  fps() {
    const now = performance.now();
    this.drawn = this.drawn.filter((when) => now - when < 2_000);
    return this.drawn.length / 2;
  }

  fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.figure.requestFullscreen?.();
  }

  figures() {
    const { state, detect_fps, latency, dropped } = this.record;
    const parts = state === "ONLINE" ? [`${fps(detect_fps)} fps`, `${Math.round(latency * 1e3)} ms`] : [];
    if (dropped) parts.push(`${dropped.toLocaleString()} dropped`);
    this.figure.querySelector(".numbers").textContent = parts.join(" · ");
  }
}

function addTile({ number }) {
  const tile = new Tile(number);
  tiles.set(number, tile);
  $("nothing").hidden = true;
  const later = [...tiles.keys()].filter((other) => other > number).sort((a, b) => a - b)[0];
  $("stage").insertBefore(tile.figure, later === undefined ? null : tiles.get(later).figure);
  $("stage").style.setProperty("--columns", Math.ceil(Math.sqrt(tiles.size)));
  $("stage").classList.toggle("several", tiles.size > 1);
  return tile;
}

function removeTile(number, tile) {
  tile.figure.remove();
  tiles.delete(number);
}

// Settings

async function change(what) {
  settings = { ...settings, ...what };
  touched = performance.now();
  showSettings();
  await fetch("/settings", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(what),
  }).catch(() => {});
}

const threshold = $("threshold");
let sending = null;  // at most one change in flight: the slider's last place counts

async function slide() {
  const value = () => Number(threshold.value) / 100;
  touched = performance.now();
  showThreshold(value());
  if (sending !== null) return;
  do {
    sending = value();
    await change({ score_threshold: sending });
  } while (sending !== value());
  sending = null;
}

function showThreshold(value) {
  const percent = Math.round(value * 100);
  threshold.value = percent;
  threshold.style.setProperty("--at", `${((threshold.value - 1) / 98) * 100}%`);
  $("score").textContent = `${percent}%`;
}

function showSettings() {
  if (sending === null) showThreshold(settings.score_threshold);
  $("pause").setAttribute("aria-pressed", settings.paused);
  $("pause").textContent = settings.paused ? "Go on" : "Pause";
}

function toggleClass(label) {
  const chosen = new Set(settings.classes ?? []);
  if (!chosen.delete(label)) chosen.add(label);
  change({ classes: chosen.size ? [...chosen] : null });
  showClasses();
}

// What is counted

function showClasses() {
  const wanted = $("find").value.trim().toLowerCase();
  const counts = {};
  for (const { record } of tiles.values())
    for (const [label, count] of Object.entries(record.counts)) counts[label] = (counts[label] ?? 0) + count;
  const chosen = settings.classes;
  const now = performance.now();
  const listed = classes.filter(({ label }) =>
    wanted ? label.toLowerCase().includes(wanted) : chosen?.includes(label) || now - (seen.get(label) ?? -1e9) < 30_000,
  );
  listed.length = Math.min(listed.length, 60);
  const chips = listed.map(({ label, colour }) => {
    const chip = old(label) ?? newChip(label, colour);
    const count = counts[label] ?? 0;
    chip.querySelector("b").textContent = count;
    chip.setAttribute("aria-pressed", Boolean(chosen?.includes(label)));
    chip.classList.toggle("none", !count);
    chip.classList.toggle("off", Boolean(chosen) && !chosen.includes(label));
    return chip;
  });
  if (chips.length !== $("chips").children.length || chips.some((chip, i) => chip !== $("chips").children[i]))
    $("chips").replaceChildren(...chips);
  $("all").hidden = chosen === null;
}

const old = (label) => [...$("chips").children].find((chip) => chip.dataset.label === label);

function newChip(label, colour) {
  const chip = document.createElement("button");
  chip.type = "button";
  chip.dataset.label = label;
  const dot = document.createElement("i");
  dot.style.background = colour;
  chip.append(dot, label, document.createElement("b"));
  chip.onclick = () => toggleClass(label);
  return chip;
}

function showRegions() {
  const rows = [];
  const words = (counts) => Object.entries(counts ?? {}).map(([label, count]) => `${count} ${label}`).join(", ") || "0";
  for (const { record } of tiles.values()) {
    for (const [name, zone] of Object.entries(record.zones ?? {})) rows.push([name, words(zone.counts)]);
    for (const [name, line] of Object.entries(record.lines ?? {}))
      rows.push([name, `in ${words(line.in)} · out ${words(line.out)}`]);
  }
  $("places").hidden = rows.length === 0;
  $("regions").replaceChildren(...rows.map(([name, text]) => {
    const [row, term, value] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
    term.textContent = name;
    value.textContent = text;
    row.append(term, value);
    return row;
  }));
}

function logEvent(event) {
  const row = document.createElement("li");
  const time = new Date().toLocaleTimeString();
  const what = [`${event.label} #${event.track_id}`, event.kind, event.zone ?? event.line];
  row.textContent = `${time}  ${what.join(" · ")}`;
  $("log").prepend(row);
  while ($("log").children.length > 50) $("log").lastElementChild.remove();
}

// Figures

const fps = (value) => (value >= 99.5 ? Math.round(value) : value.toFixed(1));

function showFigures() {
  if (!tiles.size) return;
  const sum = (pick) => [...tiles.values()].reduce((total, tile) => total + pick(tile), 0);
  const rate = (id, value) => {
    $(id).replaceChildren(fps(value), Object.assign(document.createElement("small"), { textContent: " fps" }));
  };
  rate("capture", sum((tile) => tile.record.capture_fps));
  rate("detect", sum((tile) => tile.record.detect_fps));
  rate("shown", sum((tile) => tile.fps()));
  for (const count of ["dropped", "reconnects"])
    $(count).textContent = sum((tile) => tile.record[count]).toLocaleString();
  tiles.forEach((tile) => tile.figures());
  const all = [...tiles.values()].flatMap((tile) => tile.curve.map((point) => point[1])).sort((a, b) => a - b);
  const at = (part) => Math.round(all[Math.min(all.length - 1, Math.floor(part * all.length))]);
  $("latency").textContent = all.length ? `median ${at(0.5)} ms · p99 ${at(0.99)} ms` : "";
}

function drawChart() {
  const canvas = $("chart");
  const [width, height, scale] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio || 1];
  if (canvas.width !== Math.round(width * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const now = performance.now();
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  tiles.forEach((tile) => { tile.curve = tile.curve.filter(([when]) => now - when < KEPT); });
  const most = Math.max(10, ...[...tiles.values()].flatMap((tile) => tile.curve.map((point) => point[1])));
  const step = [5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].find((size) => most * 1.1 <= size * 3) ?? 20000;
  const top = Math.ceil((most * 1.05) / step) * step;
  const y = (value) => height - 1 - (value / top) * (height - 8);
  pen.font = "11px system-ui, sans-serif";
  pen.fillStyle = style.getPropertyValue("--soft");
  pen.strokeStyle = style.getPropertyValue("--edge");
  pen.lineWidth = 1;
  for (let value = 0; value <= top; value += step) {
    const line = Math.round(y(value)) + 0.5;
    pen.beginPath();
    pen.moveTo(0, line);
    pen.lineTo(width, line);
    pen.stroke();
    if (value) pen.fillText(`${value} ms`, 2, line + 12);
  }
  for (const { curve, number } of tiles.values()) {
    if (curve.length < 2) continue;
    const colour = LINES[number % LINES.length];
    const points = columns(curve, now, width);
    pen.beginPath();
    points.forEach(([x, value], i) => (i ? pen.lineTo(x, y(value)) : pen.moveTo(x, y(value))));
    pen.strokeStyle = colour;
    pen.lineWidth = 1.6;
    pen.lineJoin = "round";
    pen.stroke();
    if (tiles.size > 1) continue;
    pen.lineTo(points.at(-1)[0], height);
    pen.lineTo(points[0][0], height);
    const shade = pen.createLinearGradient(0, 0, 0, height);
    shade.addColorStop(0, `${colour}40`);
    shade.addColorStop(1, `${colour}00`);
    pen.fillStyle = shade;
    pen.fill();
  }
}

function columns(curve, now, width) {
  // The highest value of every pixel, so that a minute of 30 fps stays readable and no peak is lost.
  const highest = new Map();
  for (const [when, value] of curve) {
    const x = Math.round(width - ((now - when) / KEPT) * width);
    highest.set(x, Math.max(value, highest.get(x) ?? 0));
  }
  return [...highest];
}

// The token

async function login() {
  connected("lost", "token needed");
  const given = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
  if (given && (await offer(given))) return;
  $("wrong").textContent = given ? "That is not the token." : "";
  const dialog = $("login");
  if (!dialog.open) dialog.showModal();
  $("token").focus();
  await new Promise((resolve) => {
    $("token-form").onsubmit = async (event) => {
      event.preventDefault();
      if (await offer($("token").value)) resolve();
      else $("wrong").textContent = "That is not the token.";
    };
  });
  dialog.close();
}

async function offer(token) {
  const answer = await fetch("/login", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ token: token.trim() }),
  }).catch(() => null);
  return answer?.ok ?? false;
}

// Hands

function press(key) {
  const tile = tiles.get(current) ?? [...tiles.values()][0];
  const step = (by) => {
    threshold.value = Number(threshold.value) + by;
    slide();
  };
  const keys = {
    " ": () => change({ paused: !settings.paused }),
    "+": () => step(5),
    "=": () => step(5),
    "-": () => step(-5),
    f: () => tile?.fullScreen(),
    s: () => tile?.figure.querySelector(".snap").click(),
  };
  return keys[key.toLowerCase()];
}

threshold.oninput = slide;
$("pause").onclick = () => change({ paused: !settings.paused });
$("all").onclick = () => { change({ classes: null }); showClasses(); };
$("find").oninput = showClasses;
$("login").oncancel = (event) => event.preventDefault();
document.onkeydown = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, button, a") || $("login").open) return;
  const act = press(event.key);
  if (!act) return;
  event.preventDefault();
  act();
};
setInterval(() => {
  showFigures();
  showClasses();
  showRegions();
  drawChart();
}, 500);
connect();
