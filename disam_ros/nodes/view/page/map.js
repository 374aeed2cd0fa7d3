// SPDX-License-Identifier: Apache-2.0
// The map from above on a canvas: x to the right, y up, in metres.
const MARGIN = 28, CLOSE = 12, STEPS = [1, 2, 5]; // [px], [px per m] at first, of the scale bar
const REACH = 40; // [px] that an arrow key moves
const BEST = 10; // candidates shown
const NEAR = 60, INSIDE = 30; // [m] across where the vehicle is followed, and in the inset
const INSET = 0.3, LEAST = 110, MOST = 220; // side of the inset: share of the canvas's shorter one, [px]
const GAP = 10; // [px] between the inset and the edge
const APART = 34; // [px] between candidates that have their scores written

export function fitted(canvas) {
  // The context of a canvas as large as it is shown, in CSS pixels.
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  const size = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

export function colours() {
  const style = getComputedStyle(document.documentElement);
  const named = (name) => style.getPropertyValue(`--${name}`).trim();
  return Object.fromEntries(["ink", "soft", "line", "place", "accent", "veil", "card", "back"].map((n) => [n, named(n)]));
}

export function onChange(canvas, draw) {
  // Draws at most once a frame: after a call, a new size, or a change between light and dark.
  let asked = false;
  const ask = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; draw(); });
  };
  new ResizeObserver(ask).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", ask);
  return ask;
}

export class MapView {
  constructor(canvas) {
    Object.assign(this, { canvas, points: [], track: [], candidates: [], pose: null, known: false });
    Object.assign(this, { centre: [0, 0], scale: 0, follow: false, moved: false, corner: [1, 1], onfollow: () => {} });
    this.draw = onChange(canvas, () => this.paint());
    this.listen();
  }

  update(news, known) {
    if (news.map) {
      this.points = news.map.points || [];
      this.moved = false; // of another map
    }
    if (news.restart) this.track = [];
    this.track.push(...news.track);
    if (this.track.length > 4000) this.track = this.track.slice(-4000);
    Object.assign(this, { candidates: news.candidates || [], pose: news.pose || null, known });
    if (this.follow && this.pose) this.centre = [this.pose.x, this.pose.y];
    this.draw();
  }

  // What a user does.

  listen() {
    const canvas = this.canvas, fingers = new Map();
    canvas.addEventListener("pointerdown", (event) => {
      fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const old = fingers.get(event.pointerId), here = [event.offsetX, event.offsetY];
      if (!old) return;
      fingers.set(event.pointerId, here);
      if (fingers.size === 1) return this.move(here[0] - old[0], here[1] - old[1]);
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const gap = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
      if (gap(old) > 0) this.zoom(gap(here) / gap(old));
    });
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
    }
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 500), [event.offsetX, event.offsetY]);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const act = {
        ArrowLeft: () => this.move(REACH, 0), ArrowRight: () => this.move(-REACH, 0),
        ArrowUp: () => this.move(0, REACH), ArrowDown: () => this.move(0, -REACH),
        "+": () => this.zoom(1.4), "=": () => this.zoom(1.4), "-": () => this.zoom(1 / 1.4),
        0: () => this.fit(), f: () => this.toggleFollow(),
      }[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      act();
    });
  }

  move(right, down) {
    this.setFollow(false);
    this.moved = true;
    this.centre = [this.centre[0] - right / this.scale, this.centre[1] + down / this.scale];
    this.draw();
  }

  zoom(factor, at) {
    const scale = Math.min(400, Math.max(0.005, this.scale * factor));
    if (at && !this.follow) {
      const away = [at[0] - this.canvas.clientWidth / 2, this.canvas.clientHeight / 2 - at[1]];
      for (const axis of [0, 1]) this.centre[axis] += away[axis] * (1 / this.scale - 1 / scale);
    }
    this.scale = scale;
    this.moved = true;
    this.draw();
  }

  fit() {
    this.setFollow(false);
    this.moved = false;
    this.draw();
  }

  toggleFollow() {
    this.setFollow(!this.follow);
    this.moved = false;
    this.draw();
  }

  setFollow(on) {
    this.follow = on;
    this.onfollow(on);
  }

  // Drawing.

  whole(width, height) {
    // The view that shows all that is known.
    const all = [...this.points, ...this.track.filter(Boolean)];
    if (!all.length) return null;
    const low = [Infinity, Infinity], high = [-Infinity, -Infinity];
    for (const point of all) {
      for (const axis of [0, 1]) {
        low[axis] = Math.min(low[axis], point[axis]);
        high[axis] = Math.max(high[axis], point[axis]);
      }
    }
    const margin = Math.min(MARGIN, width / 10), room = [width - 2 * margin, height - 2 * margin];
    const scale = Math.min(CLOSE, ...[0, 1].map((i) => room[i] / Math.max(high[i] - low[i], 1)));
    return { scale, centre: [0, 1].map((i) => (low[i] + high[i]) / 2), width, height };
  }

  near(width, height, across) {
    // The view of the vehicle's surroundings.
    return this.pose && { scale: Math.min(width, height) / across, centre: [this.pose.x, this.pose.y], width, height };
  }

  paint() {
    const { context, width, height } = fitted(this.canvas), colour = colours();
    if (!this.moved || !this.scale) { // else what the user has chosen
      const view = (this.follow && this.near(width, height, NEAR)) || this.whole(width, height);
      if (!view) return;
      Object.assign(this, { scale: view.scale, centre: view.centre });
    }
    const main = { scale: this.scale, centre: this.centre, width, height };
    this.paintView(context, main, colour);
    this.paintScale(context, height, colour);
    this.paintInset(context, main, colour);
  }

  paintInset(context, main, colour) {
    // In a corner what the main view lacks: the surroundings of the vehicle, or the whole map.
    const side = Math.max(LEAST, Math.min(MOST, INSET * Math.min(main.width, main.height)));
    const close = this.near(side, side, INSIDE), all = this.whole(side, side);
    if (!close || !all) return;
    const view = this.follow || main.scale > close.scale ? all : close;
    if (view === all && main.scale < 1.5 * all.scale) return;
    this.corner = this.freeCorner(main, side);
    context.save();
    context.translate(...this.corner.map((far, i) => GAP + far * ([main.width, main.height][i] - side - 2 * GAP)));
    context.beginPath();
    context.rect(0, 0, side, side);
    context.fillStyle = colour.card;
    context.fill();
    context.clip();
    this.paintView(context, view, colour);
    if (view === all) this.paintFrame(context, view, main, colour);
    context.strokeStyle = colour.soft;
    context.lineWidth = 2;
    context.strokeRect(0, 0, side, side);
    context.restore();
    if (view === close) this.paintFrame(context, main, close, colour);
  }

  freeCorner(main, side) {
    // The corner that hides least of the map; one stays until the vehicle comes into it.
    const at = ([x, y]) => [main.width / 2 + (x - main.centre[0]) * main.scale, main.height / 2 - (y - main.centre[1]) * main.scale];
    const hidden = ([right, low], points) => points.map(at).filter(([x, y]) =>
      Math.abs(x - right * main.width) < side + 2 * GAP && Math.abs(y - low * main.height) < side + 2 * GAP).length;
    const here = [[this.pose.x, this.pose.y]];
    const cost = (corner) => this.points.length * hidden(corner, here) + hidden(corner, this.points);
    if (this.follow || (this.moved && !hidden(this.corner, here))) return this.corner;
    return [[1, 1], [1, 0], [0, 0]].reduce((best, corner) => (cost(corner) < cost(best) ? corner : best));
  }

  paintFrame(context, view, other, colour) {
    // What another view shows, as a rectangle.
    const size = [other.width, other.height].map((length) => length / other.scale * view.scale);
    const x = view.width / 2 + (other.centre[0] - view.centre[0]) * view.scale;
    const y = view.height / 2 - (other.centre[1] - view.centre[1]) * view.scale;
    context.strokeStyle = colour.soft;
    context.lineWidth = 1;
    context.strokeRect(x - size[0] / 2, y - size[1] / 2, ...size);
  }

  paintView(context, view, colour) {
    const at = ([x, y]) => [
      view.width / 2 + (x - view.centre[0]) * view.scale, view.height / 2 - (y - view.centre[1]) * view.scale,
    ];
    context.fillStyle = colour.place;
    const dot = Math.min(2.5, Math.max(1, view.scale / 3));
    for (const point of this.points) {
      context.beginPath();
      context.arc(...at(point), dot, 0, 7);
      context.fill();
    }
    this.paintTrack(context, at, colour);
    this.paintCandidates(context, at, view, colour);
    if (this.pose) this.paintPose(context, at, view.scale, colour);
  }

  paintCandidates(context, at, view, colour) {
    // The best ones; a score is written where there is room, the best first.
    const written = this.pose ? [at([this.pose.x, this.pose.y])] : [];
    context.strokeStyle = colour.soft;
    context.lineWidth = 1.25;
    context.font = "12px system-ui, sans-serif";
    for (const [x, y, score] of this.candidates.slice(0, BEST)) {
      const place = at([x, y]);
      context.strokeRect(place[0] - 3.5, place[1] - 3.5, 7, 7);
      if (!Number.isFinite(score) || written.some((p) => Math.hypot(p[0] - place[0], p[1] - place[1]) < APART)) continue;
      written.push(place);
      const left = place[0] > view.width - APART;
      const label = [score.toFixed(2), place[0] + (left ? -7 : 7), place[1] + 4];
      context.textAlign = left ? "right" : "left";
      context.save(); // a margin keeps it legible on the track
      context.strokeStyle = colour.back;
      context.lineWidth = 4;
      context.lineJoin = "round";
      context.strokeText(...label);
      context.restore();
      context.fillStyle = colour.soft;
      context.fillText(...label);
    }
  }

  paintTrack(context, at, colour) {
    context.strokeStyle = colour.accent;
    context.lineWidth = 2;
    context.lineJoin = "round";
    context.beginPath();
    let begun = false;
    for (const point of this.track) {
      if (!point) begun = false;
      else if (begun) context.lineTo(...at(point));
      else context.moveTo(...at(point));
      begun = Boolean(point);
    }
    context.stroke();
  }

  paintPose(context, at, scale, colour) {
    const [x, y] = at([this.pose.x, this.pose.y]), [major, minor, angle] = this.pose.ellipse;
    context.lineWidth = 1.5;
    context.strokeStyle = colour.accent;
    if (this.known) {
      context.fillStyle = colour.veil;
      context.beginPath();
      context.ellipse(x, y, major * scale, minor * scale, -angle, 0, 7);
      context.fill();
      context.stroke();
    }
    context.save();
    context.translate(x, y);
    context.rotate(-this.pose.yaw);
    context.beginPath();
    context.moveTo(13, 0);
    context.lineTo(-8, 7.5);
    context.lineTo(-4, 0);
    context.lineTo(-8, -7.5);
    context.closePath();
    context.fillStyle = this.known ? colour.accent : colour.card;
    context.strokeStyle = this.known ? colour.card : colour.soft;
    context.fill();
    context.stroke();
    context.restore();
  }

  paintScale(context, height, colour) {
    // A bar of a round length between 50 and 125 px.
    const power = 10 ** Math.floor(Math.log10(125 / this.scale));
    const metres = Math.max(...STEPS.map((s) => s * power).filter((m) => m * this.scale <= 125));
    const length = metres * this.scale, y = height - 14;
    context.strokeStyle = context.fillStyle = colour.soft;
    context.lineWidth = 1.5;
    context.textAlign = "left";
    context.beginPath();
    context.moveTo(14, y - 5);
    context.lineTo(14, y);
    context.lineTo(14 + length, y);
    context.lineTo(14 + length, y - 5);
    context.stroke();
    context.font = "12px system-ui, sans-serif";
    context.fillText(metres >= 1000 ? `${metres / 1000} km` : `${metres} m`, 20, y - 6);
  }
}
