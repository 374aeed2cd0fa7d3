// SPDX-License-Identifier: Apache-2.0
// Confidence of the last minute: a line, and below it a mark for each image whose place is unknown.
import { colours, fitted, onChange } from "./map.js";

const SPAN = 60, LEFT = 30, BOTTOM = 20, TOP = 6, RIGHT = 8; // [s], [px]
const GAP = 5; // [s] without an answer that the line does not bridge

export class Sparkline {
  // Latency of the last minute, from 0 to its largest value.
  constructor(canvas) {
    Object.assign(this, { canvas, samples: [], clock: 0 });
    this.draw = onChange(canvas, () => this.paint());
  }

  update(samples, clock) {
    this.samples = samples.filter((sample) => Number.isFinite(sample[3]));
    this.clock = clock;
    const most = Math.max(...this.samples.map((sample) => sample[3]));
    const text = this.samples.length ? `Latency of the last minute, at most ${most.toFixed(0)} ms` : "No latency yet";
    this.canvas.setAttribute("aria-label", text);
    this.canvas.title = text;
    this.draw();
  }

  paint() {
    const { context, width, height } = fitted(this.canvas), colour = colours();
    const most = Math.max(1, ...this.samples.map((sample) => sample[3]));
    context.fillStyle = colour.line;
    context.fillRect(0, height - 1, width, 1);
    context.strokeStyle = colour.accent;
    context.lineWidth = 1.25;
    context.beginPath();
    let before = -Infinity;
    for (const [time, , , ms] of this.samples) {
      const x = width - (this.clock - time) / SPAN * width, y = height - 2 - ms / most * (height - 4);
      if (time - before > GAP) context.moveTo(x, y);
      else context.lineTo(x, y);
      before = time;
    }
    context.stroke();
  }
}

export class Plot {
  constructor(canvas) {
    Object.assign(this, { canvas, samples: [], clock: 0 });
    this.draw = onChange(canvas, () => this.paint());
  }

  reset() {
    this.samples = []; // all come again
  }

  update(news) {
    this.samples.push(...news.history);
    this.clock = news.clock;
    this.samples = this.samples.filter(([time]) => news.clock - time <= SPAN && time <= news.clock);
    const last = this.samples[this.samples.length - 1];
    const known = this.samples.filter((sample) => sample[2] === "known").length;
    const text = last ? `${known} of ${this.samples.length} images of the last minute are of a known place` : "No answers";
    this.canvas.setAttribute("aria-label", text);
    this.draw();
  }

  paint() {
    const { context, width, height } = fitted(this.canvas), colour = colours();
    const x = (time) => width - RIGHT - (this.clock - time) / SPAN * (width - LEFT - RIGHT);
    const y = (value) => TOP + (1 - Math.max(0, Math.min(1, value))) * (height - TOP - BOTTOM);
    context.font = "12px system-ui, sans-serif";
    context.strokeStyle = colour.line;
    context.fillStyle = colour.soft;
    context.lineWidth = 1;
    for (const value of [0, 0.5, 1]) {
      const level = Math.round(y(value)) + 0.5;
      context.beginPath();
      context.moveTo(LEFT, level);
      context.lineTo(width - RIGHT, level);
      context.stroke();
      context.textAlign = "right";
      context.fillText(String(value), LEFT - 6, level + 4);
    }
    for (const age of [60, 30, 0]) {
      context.textAlign = age === 0 ? "right" : age === 60 ? "left" : "center";
      context.fillText(age ? `−${age} s` : "now", x(this.clock - age), height - 4);
    }
    this.paintLine(context, x, y, colour);
  }

  paintLine(context, x, y, colour) {
    context.lineWidth = 1.75;
    context.lineJoin = "round";
    context.strokeStyle = colour.accent;
    context.beginPath();
    let before = -Infinity;
    for (const [time, value] of this.samples) {
      if (value === null) continue;
      if (time - before > GAP) context.moveTo(x(time), y(value));
      else context.lineTo(x(time), y(value));
      before = time;
    }
    context.stroke();
    context.fillStyle = colour.soft;
    for (const [time, , outcome] of this.samples) {
      if (outcome !== "known") context.fillRect(x(time) - 1, y(0) - 6, 2, 6);
    }
  }
}
