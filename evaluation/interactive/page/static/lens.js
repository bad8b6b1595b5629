// How an image lies on a canvas: its proportions, how far it is zoomed, what is in the middle.

const MOST_ZOOM = 32;

/**
 * A view of the image on a canvas. `shown` gives {width, height, spacing: [row, column]} of the image, null where there
 * is none; `changed` is called when the view has.
 */
export function makeLens(canvas, shown, changed) {
  const view = {zoom: 1, centre: null};  // the centre in pixels of the image; null is the image's own

  /** Where the image lies, in pixels of the canvas: (x, y) is drawn at (left + x * across, top + y * down). */
  function frame() {
    const {width, height, spacing} = shown();
    const [tall, wide] = spacing || [1, 1];  // pixels are not square where slices are thick
    const unit = view.zoom * Math.min(canvas.width / (width * wide), canvas.height / (height * tall));
    const across = unit * wide, down = unit * tall;
    const inside = (centre, size, scale, room) =>
      size * scale <= room ? size / 2 : Math.min(Math.max(centre, room / scale / 2), size - room / scale / 2);
    const x = inside(view.centre ? view.centre[0] : width / 2, width, across, canvas.width);
    const y = inside(view.centre ? view.centre[1] : height / 2, height, down, canvas.height);
    return {across, down, left: canvas.width / 2 - x * across, top: canvas.height / 2 - y * down, centre: [x, y]};
  }

  /** A place of the screen in the image, (0, 0) being its corner; it may lie outside. */
  function inImage(clientX, clientY) {
    const edge = canvas.getBoundingClientRect(), {across, down, left, top} = frame();
    return [((clientX - edge.left) * devicePixelRatio - left) / across, ((clientY - edge.top) * devicePixelRatio - top) / down];
  }

  /** Where a place in the image lies on the screen. */
  function onScreen(x, y) {
    const edge = canvas.getBoundingClientRect(), {across, down, left, top} = frame();
    return [edge.left + (left + x * across) / devicePixelRatio, edge.top + (top + y * down) / devicePixelRatio];
  }

  /** Zoom by a factor; what lies under a place of the screen, by default the middle, stays there. */
  function zoom(factor, clientX, clientY) {
    if (!shown()) return;
    const edge = canvas.getBoundingClientRect();
    const [x, y] = [clientX ?? edge.left + edge.width / 2, clientY ?? edge.top + edge.height / 2];
    const before = inImage(x, y);
    view.centre = frame().centre;
    view.zoom = Math.min(Math.max(view.zoom * factor, 1), MOST_ZOOM);
    const after = inImage(x, y);
    view.centre = view.centre.map((value, axis) => value + before[axis] - after[axis]);
    view.centre = frame().centre;
    changed();
  }

  /** Move the image by pixels of the screen. */
  function pan(right, below) {
    if (!shown()) return;
    const {across, down, centre} = frame();
    view.centre = [centre[0] - right * devicePixelRatio / across, centre[1] - below * devicePixelRatio / down];
    view.centre = frame().centre;
    changed();
  }

  /** The whole image again. */
  function reset() {
    Object.assign(view, {zoom: 1, centre: null});
    changed();
  }

  /** Make the canvas as large as what it lies in, now and when that changes. */
  function fill(stage) {
    const resize = () => {
      canvas.width = Math.max(Math.round(stage.clientWidth * devicePixelRatio), 1);
      canvas.height = Math.max(Math.round(stage.clientHeight * devicePixelRatio), 1);
      changed();
    };
    new ResizeObserver(resize).observe(stage);
  }

  return {frame, inImage, onScreen, zoom, pan, reset, fill, isWhole: () => view.zoom === 1};
}
