// Folders of names and fused groups, open or folded, and the graph that is then to be drawn.

const FIRST_PICTURE = 250; // boxes at most, where folding can do it
const UNFOLDED = 150; // up to this many, nothing starts folded
const SEPARATOR = "\u0001";

// pane -> {folders: [{key, title, parent, boxes, depth, alike}], folderOf: of every box, groups: name -> boxes}
// alike: how many folders of the same parent hold the same sequence of labels, this one included.
export function readFolders(pane) {
  const folders = [];
  const folderOf = new Int32Array(pane.boxes.length).fill(-1);
  const attach = (raw, parent, prefix) => {
    const named = prefix ? `${prefix}/${raw.name}` : raw.name;
    const merged = raw.useful && !raw.own.length && raw.inner.size === 1 && [...raw.inner.values()][0].useful;
    let here = parent;
    if (raw.useful && !merged) {
      here = folders.length;
      const depth = parent < 0 ? 0 : folders[parent].depth + 1;
      folders.push({ key: raw.key, title: named, parent, boxes: raw.boxes, depth, alike: 1 });
    }
    for (const box of raw.own) folderOf[box] = here;
    for (const inner of raw.inner.values()) attach(inner, here, merged ? named : "");
  };
  attach(findFolders(pane), -1, "");
  countAlike(pane, folders);
  return { folders, folderOf, groups: findGroups(pane) };
}

function findFolders(pane) {
  const make = (key, name) => ({ key, name, boxes: [], own: [], inner: new Map(), useful: false });
  const root = make("", "");
  const all = [];
  pane.boxes.forEach((box, index) => {
    let folder = root;
    for (const name of box.folders ?? []) {
      if (!folder.inner.has(name)) {
        folder.inner.set(name, make(`${folder.key}${SEPARATOR}${name}`, name));
        all.push(folder.inner.get(name));
      }
      folder = folder.inner.get(name);
      folder.boxes.push(index);
    }
    folder.own.push(index);
  });
  const neighbours = pane.boxes.map(() => []);
  for (const [s, t] of pane.arrows) {
    neighbours[s].push(t);
    neighbours[t].push(s);
  }
  for (const folder of all) {
    const count = folder.boxes.length;
    folder.useful = count > 1 && count < pane.boxes.length && !isScattered(folder.boxes, neighbours);
  }
  return root;
}

// Names like 'p2o.Conv.17' put boxes into one folder that have nothing to do with each other: hardly two are connected.
function isScattered(boxes, neighbours) {
  const connected = boxes.filter((box) => neighbours[box].length);
  const left = new Set(connected);
  let pieces = 0;
  for (const box of connected) {
    if (!left.delete(box)) continue;
    pieces++;
    const open = [box];
    while (open.length) for (const other of neighbours[open.pop()]) if (left.delete(other)) open.push(other);
  }
  return 2 * pieces > connected.length;
}

function countAlike(pane, folders) {
  const same = new Map();
  for (const folder of folders) {
    const key = `${folder.parent} ${JSON.stringify(folder.boxes.map((box) => pane.boxes[box].label))}`;
    if (!same.has(key)) same.set(key, []);
    same.get(key).push(folder);
  }
  for (const twins of same.values()) for (const folder of twins) folder.alike = twins.length;
}

function findGroups(pane) {
  const groups = new Map();
  pane.boxes.forEach(({ group }, index) => {
    if (group === undefined) return;
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(index);
  });
  return new Map([...groups].filter(([, boxes]) => boxes.length > 1));
}

// What is folded: {folders: keys, groups: names}.
const nothingFolded = () => ({ folders: new Set(), groups: new Set() });

// The state after a wish: "all", "none", "alike", "groups" or "no groups".
export function refolded(wish, tree, folded) {
  const closed = (keys) => new Set([...folded.folders, ...keys]);
  return {
    all: () => ({ folders: closed(tree.folders.map((one) => one.key)), groups: new Set(tree.groups.keys()) }),
    none: nothingFolded,
    alike: () => ({ ...folded, folders: closed(tree.folders.filter((one) => one.alike > 1).map((one) => one.key)) }),
    groups: () => ({ ...folded, groups: new Set(tree.groups.keys()) }),
    "no groups": () => ({ ...folded, groups: new Set() }),
  }[wish]();
}

// One folder or group opened or closed.
export function toggled(folded, kind, key, close) {
  const set = kind === "group" ? "groups" : "folders";
  const kept = [...folded[set]].filter((other) => other !== key);
  return { ...folded, [set]: new Set(close ? [...kept, key] : kept) };
}

// Of some ways to fold, the one that shows most and yet keeps the first picture small.
export function firstFolding(pane, tree) {
  if (pane.boxes.length <= UNFOLDED) return nothingFolded();
  const groups = new Set(tree.groups.keys());
  const choices = [{ folders: new Set(), groups }];
  const deepest = tree.folders.reduce((most, folder) => Math.max(most, folder.depth), -1);
  for (let depth = 0; depth <= deepest; depth++) {
    const below = tree.folders.filter((folder) => folder.depth >= depth);
    for (const some of [below.filter((folder) => folder.alike > 1), below]) {
      choices.push({ folders: new Set(some.map((folder) => folder.key)), groups });
    }
  }
  const sized = choices.map((folded) => ({ folded, size: visibleGraph(pane, tree, folded).items.length }));
  sized.sort((a, b) => a.size - b.size);
  return (sized.filter(({ size }) => size <= FIRST_PICTURE).pop() ?? sized[0]).folded;
}

// -> {items: [{kind: "box", "folder" or "group", key, title, boxes, folder, frame}], itemOf: of every box,
//     frames: [{folder, parent}] of the open folders, edges: [[s, t]], arrows: of every edge}
export function visibleGraph(pane, tree, folded) {
  const items = [];
  const itemOf = new Int32Array(pane.boxes.length).fill(-1);
  const add = (item) => {
    for (const box of item.boxes) itemOf[box] = items.length;
    items.push(item);
  };
  const closed = outermostClosed(tree, folded);
  pane.boxes.forEach((box, index) => {
    if (itemOf[index] >= 0) return;
    const inside = tree.folderOf[index];
    const shut = inside < 0 ? -1 : closed[inside];
    if (shut >= 0) {
      const { key, title, boxes, parent } = tree.folders[shut];
      add({ kind: "folder", key, title, boxes, folder: parent, index: shut });
      return;
    }
    const mates = folded.groups.has(box.group) && tree.groups.has(box.group)
      ? tree.groups.get(box.group).filter((mate) => tree.folderOf[mate] < 0 || closed[tree.folderOf[mate]] < 0) : [];
    if (mates.length > 1) add({ kind: "group", key: box.group, boxes: mates, folder: commonFolder(tree, mates) });
    else add({ kind: "box", key: box.name, boxes: [index], folder: inside });
  });
  return { items, itemOf, ...openFrames(tree, items), ...joinArrows(pane, itemOf) };
}

function outermostClosed(tree, folded) {
  const closed = new Int32Array(tree.folders.length).fill(-1);
  tree.folders.forEach(({ key, parent }, index) => {
    const above = parent < 0 ? -1 : closed[parent];
    closed[index] = above >= 0 ? above : folded.folders.has(key) ? index : -1;
  });
  return closed;
}

function ancestors(tree, folder) {
  const found = [];
  for (; folder >= 0; folder = tree.folders[folder].parent) found.push(folder);
  return found;
}

function commonFolder(tree, boxes) {
  let common = ancestors(tree, tree.folderOf[boxes[0]]);
  for (const box of boxes) {
    const here = new Set(ancestors(tree, tree.folderOf[box]));
    common = common.filter((folder) => here.has(folder));
  }
  return common[0] ?? -1;
}

function openFrames(tree, items) {
  const used = new Set(items.flatMap((item) => ancestors(tree, item.folder)));
  const open = [...used].sort((a, b) => a - b);
  const place = new Map([[-1, -1], ...open.map((folder, index) => [folder, index])]);
  for (const item of items) item.frame = place.get(item.folder);
  return { frames: open.map((folder) => ({ folder, parent: place.get(tree.folders[folder].parent) })) };
}

function joinArrows(pane, itemOf) {
  const known = new Map();
  pane.arrows.forEach(([source, target], index) => {
    const [s, t] = [itemOf[source], itemOf[target]];
    if (s === t) return;
    const key = s * itemOf.length + t;
    if (!known.has(key)) known.set(key, []);
    known.get(key).push(index);
  });
  const edges = [...known.keys()].map((key) => [Math.floor(key / itemOf.length), key % itemOf.length]);
  return { edges, arrows: [...known.values()] };
}
