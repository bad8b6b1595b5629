// Windows of Hounsfield units that CT is looked at in: the values that are black and white; null for those at first.

export const WINDOWS = [
  ["as opened", null],
  ["soft tissue", [-160, 240]],
  ["lung", [-1350, 150]],
  ["bone", [-500, 1300]],
  ["brain", [0, 80]],
];
