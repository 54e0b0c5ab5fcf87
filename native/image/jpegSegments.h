// The segments of a JPEG's header, from its start to the first scan.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moco::image {

// Calls visit(marker, payload, payloadLength) for each segment that lies within the bytes, until it
// answers false. Bytes between segments are skipped, as libjpeg and PIL do.
template <typename Visit>
void visitSegments(const uint8_t* bytes, size_t length, Visit visit) {
  constexpr uint8_t kStartOfScan = 0xda;
  constexpr uint8_t kEndOfImage = 0xd9;
  size_t at = 2;
  while (at + 4 <= length) {
    if (bytes[at] != 0xff) {
      ++at;
      continue;
    }
    const uint8_t marker = bytes[at + 1];
    if (marker == 0xff) {
      ++at;
      continue;
    }
    // Stuffed zeros, restart markers, start and end of an image have no payload. Tables may be a
    // stream of their own, with an end, before the image.
    if (marker <= 0x01 || (marker >= 0xd0 && marker <= kEndOfImage)) {
      at += 2;
      continue;
    }
    if (marker == kStartOfScan) return;
    const size_t size = static_cast<size_t>(bytes[at + 2]) << 8 | bytes[at + 3];
    if (size < 2 || at + 2 + size > length) return;
    if (!visit(marker, bytes + at + 4, size - 2)) return;
    at += 2 + size;
  }
}

}  // namespace moco::image
