// SPDX-License-Identifier: Apache-2.0
// Keeps a WebSocket open and writes what comes into the page, as text only.
import { MapView } from "./map.js";
import { Plot, Sparkline } from "./plot.js";

const NONE = "–";
const SILENT = 5000; // [ms] without a message after which the server counts as gone
const SLOWEST = 5000; // [ms] between two attempts to connect
const WORDS = {
  known: "place known", unknown: "place unknown", unreadable: "image unreadable",
  failed: "localizer failed", waiting: "waiting for images", inactive: "not active",
};
const byId = (id) => document.getElementById(id);
const map = new MapView(byId("map"));
const plot = new Plot(byId("plot"));
const latency = new Sparkline(byId("latency"));

function write(id, text) {
  const node = byId(id), value = text === undefined || text === null || text === "" ? NONE : String(text);
  if (node.textContent !== value) node.textContent = value;
}

function number(value, digits, unit) {
  const found = value === null || value === undefined || value === "" ? NaN : Number(value);
  return Number.isFinite(found) ? found.toFixed(digits).replace("-", "−") + unit : NONE;
}

function notice(text) {
  byId("notice").hidden = !text;
  if (text) write("notice", text);
}

function showState(news) {
  const word = news.found ? news.state || "inactive" : "lost";
  byId("state").dataset.state = word;
  write("state", news.found ? WORDS[word] || word : "no localizer");
  notice(news.found ? "" : news.hint);
}

function showFacts(facts, faults) {
  write("rate-in", number(facts["images in (Hz)"], 1, " Hz"));
  write("rate-out", number(facts["images out (Hz)"], 1, " Hz"));
  write("p50", number(facts["callback to published p50 (ms)"], 0, " ms"));
  write("p99", number(facts["callback to published p99 (ms)"], 0, " ms"));
  write("dropped", number(facts["images dropped"], 0, ""));
  write("known", number(facts["places known"], 0, ""));
  write("unknown", number(facts["places unknown"], 0, ""));
  write("map-name", facts.map);
  write("model", facts.model);
  byId("faults-section").classList.toggle("present", Boolean(faults));
  write("faults", faults || "none");
}

function showAnswer(answer) {
  write("probability", number(answer.probability, 3, ""));
  write("place", answer["map image"] === undefined ? answer.outcome : `map image ${answer["map image"]}`);
  write("domain", answer.domain);
  write("score", number(answer.score, 3, ""));
  write("prior", answer.prior);
  write("on-map", number(answer["on map"], 3, ""));
  byId("query").alt = `Image of camera ${answer.camera}`;
  byId("match").alt = `Map image ${answer["map image"]}`;
  byId("heat").alt = "Regions of the camera image that resemble the map image";
}

function showPose(pose, known) {
  const degrees = (angle) => number(angle * 180 / Math.PI, 1, "°");
  const place = [`x ${number(pose.x, 2, " m")}`, `y ${number(pose.y, 2, " m")}`, `yaw ${degrees(pose.yaw)}`];
  const sure = `± ${number(pose.deviation, 2, " m")}, ${degrees(pose.yaw_deviation)} (1 σ)`;
  const words = known ? [...place, sure, `in ${pose.frame}`] : ["last known:", ...place];
  byId("pose").replaceChildren(...words.map((word) => {
    const part = document.createElement("span");
    part.textContent = word;
    return part;
  }));
  byId("map").setAttribute("aria-label", `Map from above; vehicle ${words.join(", ")}`);
}

function show(news) {
  document.title = `${news.node} · disam view`;
  write("node", news.node);
  showState(news);
  showFacts(news.facts || {}, news.found ? news.faults : "");
  if (news.answer) showAnswer(news.answer);
  const known = news.found && news.state === "known";
  if (news.pose) showPose(news.pose, known);
  map.update(news, known);
  plot.update(news);
  latency.update(plot.samples, news.clock);
}

function showPictures(buffer) {
  const view = new DataView(buffer);
  let at = 0;
  for (const id of ["query", "match", "heat"]) {
    if (at + 4 > buffer.byteLength) return;
    const size = view.getUint32(at), image = byId(id), old = image.src;
    image.src = URL.createObjectURL(new Blob([buffer.slice(at + 4, at + 4 + size)], { type: "image/jpeg" }));
    if (old.startsWith("blob:")) URL.revokeObjectURL(old);
    at += 4 + size;
  }
}

function lost(reason) {
  byId("state").dataset.state = "lost";
  write("state", "no connection");
  notice(reason ? `The server refused: ${reason}. It is tried again.`
    : "The server of this page does not answer. It is tried again; is disam view still running?");
}

function connect(attempt) {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  let timer = setTimeout(() => socket.close(), SILENT), tries = attempt;
  socket.binaryType = "arraybuffer";
  socket.onopen = () => plot.reset();
  socket.onmessage = ({ data }) => {
    tries = 0;
    clearTimeout(timer);
    timer = setTimeout(() => socket.close(), SILENT);
    if (typeof data === "string") show(JSON.parse(data));
    else showPictures(data);
  };
  socket.onclose = ({ reason }) => {
    clearTimeout(timer);
    lost(reason);
    setTimeout(() => connect(tries + 1), Math.min(SLOWEST, 500 * 2 ** tries));
  };
}

for (const [id, act] of [["in", () => map.zoom(1.4)], ["out", () => map.zoom(1 / 1.4)],
  ["fit", () => map.fit()], ["follow", () => map.toggleFollow()]]) byId(id).onclick = act;
function enlarge(button) {
  for (const other of document.querySelectorAll(".picture")) {
    const large = other === button && !other.classList.contains("large");
    other.classList.toggle("large", large);
    other.title = large ? "Close (Esc)" : "Enlarge";
  }
}
for (const button of document.querySelectorAll(".picture")) button.onclick = () => enlarge(button);
addEventListener("keydown", (event) => { if (event.key === "Escape") enlarge(null); });
map.onfollow = (on) => byId("follow").setAttribute("aria-pressed", String(on));
connect(0);
