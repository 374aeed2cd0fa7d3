// SPDX-License-Identifier: Apache-2.0
// The map from above on a canvas: x to the right, y up, in metres.
const MARGIN = 28, CLOSE = 12, STEPS = [1, 2, 5]; // [px], [px per m] at first, of the scale bar
const REACH = 40; // [px] that an arrow key moves
const BEST = 10; // candidates shown
const NEAR = 100; // [m] across where the vehicle is followed

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
  return Object.fromEntries(["ink", "soft", "line", "place", "accent", "veil", "card"].map((n) => [n, named(n)]));
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
    Object.assign(this, { centre: [0, 0], scale: 0, follow: true, onfollow: () => {} });
    this.draw = onChange(canvas, () => this.paint());
    this.listen();
  }

  update(news, known) {
    if (news.map) {
      this.points = news.map.points || [];
      this.scale = 0; // of another map
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
    this.draw();
  }

  fit() {
    this.setFollow(false);
    this.scale = 0;
    this.draw();
  }

  toggleFollow() {
    this.setFollow(!this.follow);
    if (this.follow && this.pose) this.centre = [this.pose.x, this.pose.y];
    this.draw();
  }

  setFollow(on) {
    this.follow = on;
    this.onfollow(on);
  }

  // Drawing.

  frame(width, height) {
    // All that is known in view, unless the vehicle is followed: then closer.
    const all = [...this.points, ...this.track.filter(Boolean)];
    if (!all.length) return;
    const low = [Infinity, Infinity], high = [-Infinity, -Infinity];
    for (const point of all) {
      for (const axis of [0, 1]) {
        low[axis] = Math.min(low[axis], point[axis]);
        high[axis] = Math.max(high[axis], point[axis]);
      }
    }
    const room = [width - 2 * MARGIN, height - 2 * MARGIN];
    this.scale = Math.min(CLOSE, ...[0, 1].map((i) => room[i] / Math.max(high[i] - low[i], 1)));
    this.centre = [0, 1].map((i) => (low[i] + high[i]) / 2);
    if (this.follow && this.pose) {
      this.centre = [this.pose.x, this.pose.y];
      this.scale = Math.max(this.scale, Math.min(width, height) / NEAR);
    }
  }

  paint() {
    const { context, width, height } = fitted(this.canvas), colour = colours();
    if (!this.scale) this.frame(width, height);
    if (!this.scale) return;
    const at = ([x, y]) => [
      width / 2 + (x - this.centre[0]) * this.scale, height / 2 - (y - this.centre[1]) * this.scale,
    ];
    context.fillStyle = colour.place;
    const dot = Math.min(2.5, Math.max(1, this.scale / 3));
    for (const point of this.points) {
      context.beginPath();
      context.arc(...at(point), dot, 0, 7);
      context.fill();
    }
    this.paintTrack(context, at, colour);
    context.strokeStyle = colour.soft;
    context.lineWidth = 1.25;
    for (const [x, y] of this.candidates.slice(0, BEST).map(at)) context.strokeRect(x - 3.5, y - 3.5, 7, 7);
    if (this.pose) this.paintPose(context, at, colour);
    this.paintScale(context, height, colour);
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

  paintPose(context, at, colour) {
    const [x, y] = at([this.pose.x, this.pose.y]), [major, minor, angle] = this.pose.ellipse;
    context.lineWidth = 1.5;
    context.strokeStyle = colour.accent;
    if (this.known) {
      context.fillStyle = colour.veil;
      context.beginPath();
      context.ellipse(x, y, major * this.scale, minor * this.scale, -angle, 0, 7);
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
