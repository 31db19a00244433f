// Where a pane looks: {x, y, scale}, the world's point in the upper left corner and CSS pixels per world unit.

const MARGIN = 16;
const MAP_ROOM = 96;
const MOST = 3;
const FARTHEST = 0.3; // to bring something in sight
const READABLE = 0.8; // the first look is not smaller than this

export function fitted(scene, size) {
  const scale = Math.min(1.2, (size.width - 2 * MARGIN) / scene.width, (size.height - 2 * MARGIN) / scene.height);
  return centred(scene.width / 2, scene.height / 2, scale, size);
}

// All of it where that can be read, else its top, beside the minimap.
export function firstLook(scene, size) {
  const whole = fitted(scene, size);
  if (whole.scale >= READABLE) return whole;
  const room = size.width - MAP_ROOM;
  const scale = Math.min(1, Math.max(READABLE, (room - 2 * MARGIN) / scene.width));
  const top = scene.items.reduce((best, item) => (item.y < best.y ? item : best), scene.items[0]);
  const middle = scene.width * scale <= room ? scene.width / 2 : top.x + top.width / 2;
  return { x: middle - room / 2 / scale, y: -MARGIN / scale, scale };
}

export function centred(x, y, scale, size) {
  return { x: x - size.width / 2 / scale, y: y - size.height / 2 / scale, scale };
}

// Zooms so that the point under (px, py) stays there.
export function zoomed(camera, factor, px, py, scene, size) {
  const least = Math.min(0.2, fitted(scene, size).scale) * 0.7;
  const scale = Math.min(MOST, Math.max(least, camera.scale * factor));
  return { x: camera.x + px / camera.scale - px / scale, y: camera.y + py / camera.scale - py / scale, scale };
}

// Never wholly out of sight: the middle of the pane stays over the picture.
export function held(camera, scene, size) {
  const [halfWidth, halfHeight] = [size.width / 2 / camera.scale, size.height / 2 / camera.scale];
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  return {
    x: clamp(camera.x + halfWidth, 0, scene.width) - halfWidth,
    y: clamp(camera.y + halfHeight, 0, scene.height) - halfHeight,
    scale: camera.scale,
  };
}

// The camera moved so that the bounds are in sight, if they were not; of those too large for that, their beginning.
export function revealing(camera, { x, y, width, height }, size) {
  const [wide, high] = [size.width / camera.scale, size.height / camera.scale];
  if (x >= camera.x && y >= camera.y && x + width <= camera.x + wide && y + height <= camera.y + high) return camera;
  const fits = width <= 0.9 * wide && height <= 0.9 * high;
  const scale = fits ? camera.scale : Math.max(FARTHEST, 0.85 * Math.min(size.width / width, size.height / height));
  const half = (extent, room) => Math.min(extent / 2, room / 2 / scale - MARGIN / scale);
  return centred(x + half(width, size.width), y + half(height, size.height), scale, size);
}
