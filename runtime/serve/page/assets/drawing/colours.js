// Colours of similarities: ordered in lightness, and told apart by people who do not see red and green apart.

/**
 * Colours at equal distances, from the lowest value to the highest; what lies between is interpolated linearly.
 * Viridis, cividis and RdBu (reversed) as matplotlib has them, to within 5 of 255: see the tests.
 */
export const PALETTES = {
  viridis: {
    title: "Viridis",
    diverging: false,
    stops: stopsOf(
      "440154 470d60 48186a 482374 472d7b 453781 424086 3e4989 3b528b 375b8d 33638d 2f6b8e 2c728e 297a8e " +
      "26828e 23898e 21918c 1f988b 1fa088 22a785 28ae80 32b67a 3fbc73 4ec36b 5ec962 70cf57 84d44b 98d83e " +
      "addc30 c2df23 d8e219 ece51b fde725",
    ),
  },
  cividis: {
    title: "Cividis",
    diverging: false,
    stops: stopsOf(
      "00224e 00285b 002e6a 053371 1a386f 273e6e 32436d 3b496c 434e6c 4b546c 535a6d 5a5f6e 61656f 686a71 " +
      "6f7073 767676 7d7c78 848279 8c8878 938e78 9b9476 a39a74 aba072 b4a76f bcae6c c4b468 cdbb63 d5c25e " +
      "dec958 e7d150 f0d846 f9e03a fee838",
    ),
  },
  blueRed: {
    title: "Blue and red around 0",
    diverging: true,
    stops: stopsOf(
      "053061 2065ab 4393c3 90c4dd d1e5f0 f7f6f6 fddbc7 f3a481 d6604d b1182b 67001f",
    ),
  },
};

function stopsOf(hexadecimal) {
  return hexadecimal.split(" ").map((colour) => [0, 2, 4].map((at) => parseInt(colour.slice(at, at + 2), 16)));
}

/** [red, green, blue] in 0–255 for a share in [0, 1] of a palette's range. */
export function colourAt(palette, share) {
  const stops = PALETTES[palette].stops;
  const at = Math.max(0, Math.min(1, share)) * (stops.length - 1);
  const below = Math.min(Math.floor(at), stops.length - 2);
  return stops[below].map((value, channel) => value + (stops[below + 1][channel] - value) * (at - below));
}

/** The same in CSS, with a share of white that makes it stand out on a dark film. */
export function cssColour(palette, share, white = 0) {
  return `rgb(${colourAt(palette, share).map((value) => Math.round(value + (255 - value) * white)).join(" ")})`;
}

/** How much of a value is seen over the film, in [0, 1]: what is weak, or near 0 where colours diverge, leaves it visible. */
export function strength(palette, share) {
  const within = Math.max(0, Math.min(1, share));
  return PALETTES[palette].diverging ? Math.abs(2 * within - 1) : 0.15 + 0.85 * within;
}

/** Where a value lies between the ends of a scale; may be outside [0, 1]. */
export function shareOf(value, [low, high]) {
  return high > low ? (value - low) / (high - low) : 0.5;
}

/**
 * The ends of the scale.
 *
 * @param maps number[][][]: of all phrases
 * @param shown which of them is drawn
 * @param scale "all" phrases share one, each has its "own", or "unit": from −1 to 1
 * @param palette its scale is symmetric around 0 where colours diverge
 */
export function rangeOf(maps, shown, scale, palette) {
  if (scale === "unit") return [-1, 1];
  const values = (scale === "own" ? [maps[shown]] : maps).flat(2);
  const [low, high] = values.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [Infinity, -Infinity]);
  const furthest = Math.max(Math.abs(low), Math.abs(high));
  return PALETTES[palette].diverging ? [-furthest, furthest] : [low, high];
}

/** "black" or "white", whichever is read better on a colour: contrast by WCAG 2.2's relative luminance. */
export function inkOn(colour) {
  const [red, green, blue] = colour.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) ? "black" : "white";
}
