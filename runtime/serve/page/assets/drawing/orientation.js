// Pictures as they are stored: models do not apply the turn that EXIF asks for, and browsers do.

const SEGMENTS_WITHOUT_LENGTH = (marker) => marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8);

/**
 * The same picture without EXIF, so that it is shown as it is stored.
 *
 * @param content Blob of a JPEG or PNG file
 * @returns {Promise<Blob>} `content` itself where there is nothing to leave out
 */
export async function withoutExif(content) {
  const bytes = new Uint8Array(await content.arrayBuffer());
  const left = content.type === "image/jpeg" ? exifOfJpeg(bytes) : exifOfPng(bytes);
  if (!left.length) return content;
  const kept = [];
  let from = 0;
  for (const [start, end] of left) {
    kept.push(bytes.subarray(from, start));
    from = end;
  }
  return new Blob([...kept, bytes.subarray(from)], { type: content.type });
}

/** [start, end) of the segments APP1 with EXIF, which stand before the first scan: JPEG (ITU-T T.81), B.1.1. */
function exifOfJpeg(bytes) {
  const found = [];
  for (let at = 2; at + 10 <= bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1];
    if (marker === 0xff) at += 1; // a fill byte
    else if (SEGMENTS_WITHOUT_LENGTH(marker)) at += 2;
    else if (marker === 0xda) break;
    else {
      const end = at + 2 + ((bytes[at + 2] << 8) | bytes[at + 3]);
      if (marker === 0xe1 && textAt(bytes, at + 4) === "Exif") found.push([at, Math.min(end, bytes.length)]);
      at = end;
    }
  }
  return found;
}

/** [start, end) of the chunks eXIf: PNG (third edition), 5.3 and 11.3.4.5. */
function exifOfPng(bytes) {
  const view = new DataView(bytes.buffer);
  const found = [];
  for (let at = 8; at + 12 <= bytes.length; ) {
    const end = at + 12 + view.getUint32(at);
    if (textAt(bytes, at + 4) === "eXIf") found.push([at, Math.min(end, bytes.length)]);
    at = end;
  }
  return found;
}

function textAt(bytes, at) {
  return String.fromCharCode(...bytes.subarray(at, at + 4));
}
