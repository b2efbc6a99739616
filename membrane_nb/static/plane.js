// A plane of the browser of toolbox/42_browser, drawn on a canvas. `browser.js` follows it in one module.
// A picture has its top row first; y, and z in the plane xz, run upwards.
// A place in a plane is [up, right] in voxels, which is [y, x] in xy; the centre of a voxel is a whole number.

const ORANGE = [230, 159, 0], BLUE = [86, 180, 233], GREEN = [0, 158, 115]; // membrane, not annotated, found
const PLANES = { xy: ['x', 'y', 'z'], zy: ['z', 'y', 'x'], xz: ['x', 'z', 'y'] }; // to the right, upwards, through
const STEPS = 200; // a probability of 1 is sent as this number

// Bytes that Python packed with zlib.
async function unpack(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// One of the three planes: a canvas, the grey picture, and the layers over it.
class Plane {
  constructor(browser, name) {
    this.browser = browser;
    this.name = name;
    [this.right, this.up, this.through] = PLANES[name];
    this.canvas = document.createElement('canvas');
    this.canvas.dataset.plane = name;
    this.grey = null;      // ImageBitmap
    this.layers = {};      // name to {rows, columns, bytes, inside, tint: a canvas}
    this.annotated = true; // whether the slice that is shown is annotated
  }

  // Pixels of the screen for a place, and back.
  toScreen([up, right]) {
    const { centre, scale } = this.browser, { width, height } = this.canvas;
    return [width / 2 + (right - centre[this.right]) * scale, height / 2 - (up - centre[this.up]) * scale];
  }

  toVoxel(event) {
    const { centre, scale, ratio } = this.browser, box = this.canvas.getBoundingClientRect();
    const x = (event.clientX - box.left) * ratio - this.canvas.width / 2;
    const y = (event.clientY - box.top) * ratio - this.canvas.height / 2;
    return [centre[this.up] - y / scale, centre[this.right] + x / scale];
  }

  // Keep the bytes of a layer and colour them.
  async take({ name, rows, columns }, packed) {
    this.layers[name] = { rows, columns, bytes: await unpack(packed), tint: new OffscreenCanvas(columns, rows) };
    this.tint(name);
  }

  // Colour a layer: what is at or above the threshold, as an area or as its edge.
  tint(name) {
    const layer = this.layers[name], { rows, columns, bytes } = layer, b = this.browser;
    const probability = name === 'found' && b.info.found === 'probability', low = b.step();
    const on = (i) => (probability ? bytes[i] >= low : bytes[i] === 1);
    const atEdge = (i) => i % columns === 0 || (i + 1) % columns === 0
      || !on(i - 1) || !on(i + 1) || !on(i - columns) || !on(i + columns);
    const picture = new ImageData(columns, rows), out = new Uint32Array(picture.data.buffer);
    const alpha = Math.round(255 * (b.outline ? 1 : b.opacity));
    const pixel = ([red, green, blue]) => (alpha << 24 | blue << 16 | green << 8 | red) >>> 0;
    const membrane = pixel(name === 'found' && b.info.paint ? GREEN : ORANGE), ignored = pixel(BLUE);
    let inside = 0;
    for (let i = 0; i < bytes.length; i++) {
      if (on(i)) {
        inside++;
        if (!b.outline || atEdge(i)) out[i] = membrane;
      } else if (!probability && bytes[i] === 2 && this.annotated) out[i] = ignored;
    }
    layer.inside = inside / bytes.length;
    layer.tint.getContext('2d').putImageData(picture, 0, 0);
  }

  draw() {
    const b = this.browser, { canvas } = this, context = canvas.getContext('2d');
    const wide = b.size[this.right], high = b.size[this.up];
    const place = [...this.toScreen([high - .5, -.5]), wide * b.scale, high * b.scale];
    context.imageSmoothingEnabled = b.scale < 1;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (this.grey) context.drawImage(this.grey, ...place);
    for (const name of ['found', 'paint']) {
      if (b.overlay && this.layers[name] && this.shows(name)) context.drawImage(this.layers[name].tint, ...place);
    }
    if (b.three) this.drawCursor(context);
    if (this.name !== 'xy') return;
    this.drawScaleBar(context);
    if (b.tool !== 'look') this.drawTool(context);
  }

  // What was found is seen where nobody has painted yet.
  shows(name) { return name === 'paint' || !this.browser.info.paint || this.name !== 'xy' || !this.annotated; }

  // Where the other planes pass.
  drawCursor(context) {
    const { at } = this.browser, [x, y] = this.toScreen([at[this.up], at[this.right]]);
    context.fillStyle = `rgba(${BLUE}, .8)`;
    context.fillRect(0, Math.round(y), this.canvas.width, 1);
    context.fillRect(Math.round(x), 0, 1, this.canvas.height);
  }

  // A bar of round length, a quarter of the picture at most.
  drawScaleBar(context) {
    const { nm, scale, ratio, info } = this.browser;
    const most = this.canvas.width / 4 / scale * nm, decade = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].map((k) => k * decade).find((n) => n <= most), long = length / nm * scale;
    const y = this.canvas.height - 10 * ratio, x = 10 * ratio;
    context.fillStyle = 'rgba(0, 0, 0, .6)';
    context.fillRect(x - 5 * ratio, y - 19 * ratio, Math.max(long, 50 * ratio) + 10 * ratio, 27 * ratio);
    context.fillStyle = 'white';
    context.fillRect(x, y, long, 3 * ratio);
    context.font = `${12 * ratio}px system-ui, sans-serif`;
    context.fillText(`${Number(length.toPrecision(3))} ${info.pixel ? 'nm' : 'voxels'}`, x, y - 4 * ratio);
  }

  // The stroke under the mouse, the points of a line and its way, and the circle of the tool.
  drawTool(context) {
    const b = this.browser, radius = b.radius() * b.scale;
    const trace = (points, colour, width) => {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      for (const point of points) context.lineTo(...this.toScreen(point));
      context.stroke();
    };
    context.lineJoin = context.lineCap = 'round';
    if (b.tool === 'line') {
      trace(b.way, `rgb(${ORANGE})`, 2);
      for (const point of b.points) {
        const [x, y] = this.toScreen(point);
        context.strokeRect(x - 3, y - 3, 6, 6);
      }
      context.setLineDash([4, 4]);
      if (b.points.length && b.mouse) trace([b.points.at(-1), b.mouse], `rgb(${ORANGE})`, 2);
      context.setLineDash([]);
    } else trace(b.points, b.tool === 'eraser' ? 'rgba(255, 255, 255, .4)' : `rgba(${ORANGE}, .5)`, Math.max(2, 2 * radius));
    if (!b.mouse) return;
    context.strokeStyle = 'white';
    context.lineWidth = 1;
    context.beginPath();
    context.arc(...this.toScreen(b.mouse), Math.max(radius, 2), 0, 7);
    context.stroke();
  }
}
