#include "tone.h"

#include <algorithm>
#include <array>

#include "simd.h"

namespace moco::image {
namespace {

using Histogram = std::array<uint64_t, 256>;
using Table = std::array<uint8_t, 256>;

Histogram histogramOf(const uint8_t* bytes, size_t count) {
  // Neighbours are often equal; in one table each addition would wait for the one before.
  constexpr size_t kTables = 4;
  constexpr size_t kPiece = size_t{1} << 30;  // whose counts fit 32 bits
  Histogram total{};
  for (size_t done = 0; done < count; done += kPiece) {
    const size_t end = std::min(count, done + kPiece);
    uint32_t counts[kTables][256] = {};
    size_t i = done;
    for (; i + kTables <= end; i += kTables) {
      for (size_t table = 0; table < kTables; ++table) ++counts[table][bytes[i + table]];
    }
    for (; i < end; ++i) ++counts[0][bytes[i]];
    for (size_t value = 0; value < 256; ++value) {
      for (const auto& table : counts) total[value] += table[value];
    }
  }
  return total;
}

struct Range {
  uint8_t lowest = 255;
  uint8_t highest = 0;
};

MOCO_SIMD Range rangeOf(const uint8_t* __restrict bytes, size_t count) {
  uint8_t lowest = 255;
  uint8_t highest = 0;
  for (size_t i = 0; i < count; ++i) {
    lowest = bytes[i] < lowest ? bytes[i] : lowest;
    highest = bytes[i] > highest ? bytes[i] : highest;
  }
  return {lowest, highest};
}

void replace(uint8_t* bytes, size_t count, const Table& table) {
  for (size_t i = 0; i < count; ++i) bytes[i] = table[bytes[i]];
}

MOCO_SIMD void keepBits(uint8_t* __restrict bytes, size_t count, uint8_t mask) {
  for (size_t i = 0; i < count; ++i) bytes[i] &= mask;
}

MOCO_SIMD void addBelow(uint8_t* __restrict bytes, size_t count, uint8_t threshold, uint8_t add) {
  const uint8_t most = static_cast<uint8_t>(255 - add);
  for (size_t i = 0; i < count; ++i) {
    const uint8_t value = bytes[i];
    const uint8_t sum = static_cast<uint8_t>((value < most ? value : most) + add);
    bytes[i] = value < threshold ? sum : value;
  }
}

}  // namespace

void autoContrast(Tile& tile) {
  for (int channel = 0; channel < tile.planes; ++channel) {
    uint8_t* plane = tile.plane(channel);
    const Range range = rangeOf(plane, tile.area());
    if (range.highest <= range.lowest) continue;
    const double scale = 255.0 / (range.highest - range.lowest);
    const double offset = -range.lowest * scale;
    Table table;
    for (int value = 0; value < 256; ++value) {
      table[static_cast<size_t>(value)] =
          static_cast<uint8_t>(std::clamp(static_cast<int>(value * scale + offset), 0, 255));
    }
    replace(plane, tile.area(), table);
  }
}

void equalize(Tile& tile) {
  for (int channel = 0; channel < tile.planes; ++channel) {
    const Histogram histogram = histogramOf(tile.plane(channel), tile.area());
    size_t last = 255;
    while (last > 0 && histogram[last] == 0) --last;
    // Pixels of any value but the lightest. None: there is one value only, and nothing changes.
    const uint64_t step = (tile.area() - histogram[last]) / 255;
    if (step == 0) continue;
    Table table;
    uint64_t below = step / 2;
    for (size_t value = 0; value < 256; ++value) {
      table[value] = static_cast<uint8_t>(std::min<uint64_t>(below / step, 255));
      below += histogram[value];
    }
    replace(tile.plane(channel), tile.area(), table);
  }
}

void posterize(Tile& tile, int bits) {
  const int mask = 0xff << (8 - std::clamp(bits, 0, 8));
  keepBits(tile.bytes.data(), static_cast<size_t>(tile.planes) * tile.area(),
           static_cast<uint8_t>(mask));
}

void solarizeAdd(Tile& tile, int add) {
  addBelow(tile.bytes.data(), static_cast<size_t>(tile.planes) * tile.area(), 128,
           static_cast<uint8_t>(std::clamp(add, 0, 255)));
}

}  // namespace moco::image
