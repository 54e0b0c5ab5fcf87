#include "orientation.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "jpegSegments.h"

namespace moco::image {
namespace {

constexpr uint8_t kApp1 = 0xe1;
constexpr uint16_t kOrientationTag = 0x0112;
constexpr std::string_view kExif("Exif\0\0", 6);
constexpr std::string_view kXmp("http://ns.adobe.com/xap/1.0/\0", 29);
// The tag is there, with a value that is no orientation.
constexpr int kInvalid = 0;
constexpr int kAbsent = -1;

// Bytes of one value of each TIFF type; 0 for types that do not exist.
constexpr int kTypeSizes[] = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8};
// Those of whole numbers of up to four bytes, except the unsigned byte, which PIL keeps as bytes.
constexpr bool kIsWhole[] = {false, false, false, true,  true, false, true,  false, true,
                             true,  false, false, false, true, false, false, false};

std::string_view view(const uint8_t* bytes, size_t length) {
  return {reinterpret_cast<const char*>(bytes), length};
}

bool startsWith(std::string_view text, std::string_view beginning) {
  return text.substr(0, beginning.size()) == beginning;
}

// Reads numbers of a TIFF file in its byte order. Reading beyond the end gives false.
class TiffReader {
 public:
  explicit TiffReader(std::string_view bytes) : bytes(bytes), bigEndian(startsWith(bytes, "MM")) {}

  bool hasHeader() const {
    if (bytes.size() < 8 || !(bigEndian || startsWith(bytes, "II"))) return false;
    // Either byte order of the 42, whatever that of the file; PIL also takes a 43 for it.
    const std::string_view version = bytes.substr(2, 2);
    return version == std::string_view("*\0", 2) || version == std::string_view("\0*", 2) ||
           (bigEndian && version == std::string_view("\0+", 2));
  }
  bool read(size_t at, int size, uint32_t& value) const {
    if (!holds(at, size)) return false;
    value = 0;
    for (int i = 0; i < size; ++i) {
      const auto byte = static_cast<uint8_t>(bytes[at + (bigEndian ? i : size - 1 - i)]);
      value = value << 8 | byte;
    }
    return true;
  }
  bool holds(size_t at, uint64_t size) const {
    return at <= bytes.size() && size <= bytes.size() - at;
  }

 private:
  std::string_view bytes;
  bool bigEndian;
};

// The orientation in the first directory of a TIFF file; the first entry of several counts.
int tiffOrientation(std::string_view bytes) {
  const TiffReader tiff(bytes);
  uint32_t directory = 0;
  uint32_t entries = 0;
  if (bytes.empty()) return kAbsent;
  if (!tiff.hasHeader()) return kInvalid;
  if (!tiff.read(4, 4, directory) || !tiff.read(directory, 2, entries)) return kAbsent;
  uint64_t outOfLine = 0;
  for (uint32_t i = 0; i < entries; ++i) {
    const size_t at = size_t{directory} + 2 + size_t{i} * 12;
    uint32_t tag = 0;
    uint32_t type = 0;
    uint32_t count = 0;
    uint32_t offset = 0;
    if (!tiff.read(at, 2, tag) || !tiff.read(at + 2, 2, type) || !tiff.read(at + 4, 4, count) ||
        !tiff.read(at + 8, 4, offset)) {
      break;
    }
    if (type >= std::size(kTypeSizes) || kTypeSizes[type] == 0 || count == 0) continue;
    const uint64_t size = uint64_t{count} * static_cast<uint64_t>(kTypeSizes[type]);
    // As PIL: entries that claim more than the file holds are passed over, and one whose value
    // lies outside the file ends the directory.
    if (size > 4) {
      outOfLine += size;
      if (outOfLine > bytes.size()) continue;
      if (!tiff.holds(offset, size)) break;
    }
    if (tag != kOrientationTag) continue;
    uint32_t value = 0;
    const bool isNumber =
        kIsWhole[type] && tiff.read(size > 4 ? offset : at + 8, kTypeSizes[type], value);
    return isNumber && value <= 8 ? static_cast<int>(value) : kInvalid;
  }
  return kAbsent;
}

int xmpOrientation(std::string_view text) {
  constexpr std::string_view kName = "tiff:Orientation";
  for (size_t at = text.find(kName); at != text.npos; at = text.find(kName, at + 1)) {
    std::string_view rest = text.substr(at + kName.size());
    if (startsWith(rest, "=\"")) {
      rest.remove_prefix(2);
    } else if (startsWith(rest, ">")) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return rest[0] - '0';
  }
  return kAbsent;
}

// Pixel (x, y) of the upright picture is pixel (u, v) of the stored one, where u and v are x and y
// or, for orientations 5 to 8, y and x, each counted from the far side if so flipped.
bool flipsColumns(int orientation) {
  return orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
}
bool flipsRows(int orientation) {
  return orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
}

Box flipped(Box box, int orientation, int width, int height) {
  if (flipsColumns(orientation)) box.left = width - box.left - box.width;
  if (flipsRows(orientation)) box.top = height - box.top - box.height;
  return box;
}

Box swapped(const Box& box) { return {box.left, box.top, box.width, box.height}; }

}  // namespace

int readOrientation(const uint8_t* jpeg, size_t length) {
  std::vector<char> exif;  // large EXIF data goes through several segments
  std::string_view xmp;
  visitSegments(jpeg, length, [&](uint8_t marker, const uint8_t* payload, size_t size) {
    if (marker != kApp1) return true;
    const std::string_view segment = view(payload, size);
    if (startsWith(segment, kExif)) {
      exif.insert(exif.end(), segment.begin() + kExif.size(), segment.end());
    } else if (startsWith(segment, kXmp)) {
      xmp = segment.substr(kXmp.size());
    }
    return true;
  });
  std::string_view tiff(exif.data(), exif.size());
  if (startsWith(tiff, kExif)) tiff.remove_prefix(kExif.size());  // some cameras write it twice
  int orientation = tiffOrientation(tiff);
  if (orientation == kAbsent) orientation = xmpOrientation(xmp);
  return orientation >= 1 && orientation <= 8 ? orientation : kUpright;
}

Box storedBox(const Box& upright, int orientation, int storedWidth, int storedHeight) {
  const Box box = swapsSides(orientation) ? swapped(upright) : upright;
  return flipped(box, orientation, storedWidth, storedHeight);
}

Box uprightBox(const Box& stored, int orientation, int storedWidth, int storedHeight) {
  const Box box = flipped(stored, orientation, storedWidth, storedHeight);
  return swapsSides(orientation) ? swapped(box) : box;
}

void turnUpright(const uint8_t* stored, size_t stride, int storedWidth, int storedHeight,
                 int orientation, uint8_t* upright) {
  const bool swap = swapsSides(orientation);
  const ptrdiff_t rowStep =
      flipsRows(orientation) ? -static_cast<ptrdiff_t>(stride) : static_cast<ptrdiff_t>(stride);
  const ptrdiff_t columnStep = flipsColumns(orientation) ? -3 : 3;
  const uint8_t* corner = stored;
  if (rowStep < 0) corner += stride * static_cast<size_t>(storedHeight - 1);
  if (columnStep < 0) corner += 3 * static_cast<size_t>(storedWidth - 1);
  const int rows = swap ? storedWidth : storedHeight;
  const int columns = swap ? storedHeight : storedWidth;
  for (int y = 0; y < rows; ++y) {
    const uint8_t* from = corner + y * (swap ? columnStep : rowStep);
    const ptrdiff_t step = swap ? rowStep : columnStep;
    for (int x = 0; x < columns; ++x, upright += 3) {
      const uint8_t* pixel = from + x * step;
      upright[0] = pixel[0];
      upright[1] = pixel[1];
      upright[2] = pixel[2];
    }
  }
}

}  // namespace moco::image
