#include "jpegDecoder.h"

#include "imageError.h"

#ifdef MOCO_WITH_JPEG

#include <algorithm>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>

#include "convert.h"
#include "jpegLibrary.h"
#include "jpegSegments.h"
#include "orientation.h"

namespace moco::image {
namespace {

// PIL's: twice its MAX_IMAGE_PIXELS.
constexpr int64_t kMaxPixels = 178956970;
// Each scan of a progressive file visits each block, for some 8 ns, even when the scan itself takes
// a few bytes of the file. The largest picture may have 23 scans (10 are usual), a common one
// thousands.
constexpr int64_t kMaxBlockVisits = 200'000'000;
constexpr size_t kHugeBytes = 64 << 20;
// A crop narrower than this would make libjpeg upsample without interpolation.
constexpr int kMinColumns = 64;
constexpr JDIMENSION kInkRows = 16;
constexpr size_t kBlockBytes = DCTSIZE2 * sizeof(JCOEF);

#define MOCO_QUOTE(text) #text
#define MOCO_QUOTE_VALUE(macro) MOCO_QUOTE(macro)
constexpr const char* kVersion = "libjpeg-turbo " MOCO_QUOTE_VALUE(LIBJPEG_TURBO_VERSION);

std::mutex hugeImages;

// Whether the data of a single scan ends with an end-of-image marker, with restart markers at most
// before it. Then libjpeg can neither run out of data nor meet a faulty segment, wherever it stops.
bool endsOrderly(const uint8_t* at, size_t length) {
  const uint8_t* const end = at + length;
  while (at < end) {
    at = static_cast<const uint8_t*>(std::memchr(at, 0xff, static_cast<size_t>(end - at)));
    if (at == nullptr) return false;
    while (at < end && *at == 0xff) ++at;
    if (at == end) return false;
    const uint8_t marker = *at++;
    if (marker != 0 && (marker & 0xf8) != JPEG_RST0) return marker == JPEG_EOI;
  }
  return false;
}

// The frame type (0xc0 to 0xcf), or 0.
uint8_t frameType(const uint8_t* bytes, size_t length) {
  uint8_t type = 0;
  visitSegments(bytes, length, [&](uint8_t marker, const uint8_t*, size_t) {
    const bool isTable = marker == 0xc4 || marker == 0xc8 || marker == 0xcc;
    if (marker >= 0xc0 && marker <= 0xcf && !isTable) type = marker;
    return type == 0;
  });
  return type;
}

std::string describeFrame(uint8_t type) {
  char text[8];
  std::snprintf(text, sizeof text, "0x%02x", type);
  return text;
}

void makeRoom(std::vector<uint8_t>& bytes, size_t needed) {
  if (bytes.size() > kHugeBytes && needed < bytes.size() / 4) std::vector<uint8_t>().swap(bytes);
  if (bytes.size() < needed) bytes.resize(needed);
}

}  // namespace

struct JpegDecoder::State {
  LibJpeg library;
  bool opened = false;
  // Only decoding all of it tells whether the file is good.
  bool needsAll = false;
  int orientation = kUpright;
  // What is decoded, of the picture as it is stored.
  Box box;
  std::vector<JSAMPROW> rows;
  std::vector<uint8_t> ink;
  std::vector<uint8_t> stored;

  int width() const { return static_cast<int>(library.info.image_width); }
  int height() const { return static_cast<int>(library.info.image_height); }
  size_t bytesNeeded();
  void cropColumns();
  void readRows(uint8_t* pixels, size_t stride);
  void readInkRows(uint8_t* pixels, size_t stride);
};

size_t JpegDecoder::State::bytesNeeded() {
  const size_t pixels = static_cast<size_t>(box.height) * static_cast<size_t>(box.width) * 3;
  const bool keepsCoefficients = jpeg_has_multiple_scans(&library.info);
  return pixels + (keepsCoefficients ? static_cast<size_t>(library.blocks()) * kBlockBytes : 0);
}

// Interpolation of colour at the cut edges lacks a neighbour: a few more columns keep these edges
// out of the box.
void JpegDecoder::State::cropColumns() {
  jpeg_decompress_struct& info = library.info;
  const int margin = 2 * info.max_h_samp_factor;
  const int end = std::min(width(), std::max(box.left + box.width + margin, kMinColumns));
  const int begin = std::max(0, std::min(box.left - margin, end - kMinColumns));
  auto left = static_cast<JDIMENSION>(begin);
  auto columns = static_cast<JDIMENSION>(end - begin);
  if (columns < info.output_width) {
    library.require([&info, &left, &columns] { jpeg_crop_scanline(&info, &left, &columns); });
  }
  box.left = static_cast<int>(left);
  box.width = static_cast<int>(columns);
}

void JpegDecoder::State::readRows(uint8_t* pixels, size_t stride) {
  const auto height = static_cast<JDIMENSION>(box.height);
  rows.resize(height);
  for (JDIMENSION i = 0; i < height; ++i) rows[i] = pixels + stride * i;
  library.require([this, height] {
    for (JDIMENSION done = 0; done < height;) {
      const JDIMENSION got = jpeg_read_scanlines(&library.info, rows.data() + done, height - done);
      if (got == 0) library.fail(LibJpeg::Failure::kTruncated);
      done += got;
    }
  });
}

// PIL takes all files of four components for Adobe's, which hold what is left of the light.
void JpegDecoder::State::readInkRows(uint8_t* pixels, size_t stride) {
  const auto height = static_cast<JDIMENSION>(box.height);
  const auto width = static_cast<size_t>(box.width);
  ink.resize(4 * width * kInkRows);
  rows.resize(kInkRows);
  for (JDIMENSION i = 0; i < kInkRows; ++i) rows[i] = ink.data() + 4 * width * i;
  library.require([this, pixels, stride, height, width] {
    for (JDIMENSION done = 0; done < height;) {
      const JDIMENSION wanted = std::min(kInkRows, height - done);
      const JDIMENSION got = jpeg_read_scanlines(&library.info, rows.data(), wanted);
      if (got == 0) library.fail(LibJpeg::Failure::kTruncated);
      for (JDIMENSION i = 0; i < got; ++i) {
        uint8_t* row = rows[i];
        for (size_t j = 0; j < 4 * width; ++j) row[j] = static_cast<uint8_t>(255 - row[j]);
        cmykToRgb(row, width, pixels + stride * (done + i));
      }
      done += got;
    }
  });
}

JpegDecoder::JpegDecoder() : state(std::make_unique<State>()) {}

JpegDecoder::Info JpegDecoder::open(const uint8_t* bytes, size_t length, bool honourOrientation) {
  State& s = *state;
  jpeg_decompress_struct& info = s.library.info;
  s.opened = false;
  s.library.close();
  if (!looksLikeJpeg(bytes, length)) throw ImageError("not a JPEG");
  // Types beyond these are lossless or differential.
  const uint8_t type = frameType(bytes, length);
  if (type != 0 && type > 0xc2 && type != 0xc9 && type != 0xca) {
    throw ImageError("a lossless or hierarchical JPEG (frame type " + describeFrame(type) +
                     "), which is not supported");
  }

  s.library.open(bytes, length);
  // Tables may come before the image, as a stream of their own.
  s.library.require([&info] {
    while (jpeg_read_header(&info, FALSE) == JPEG_HEADER_TABLES_ONLY) {
    }
  });
  if (info.data_precision != 8) {
    throw ImageError("a JPEG of " + std::to_string(info.data_precision) +
                     " bits per sample; only 8 are supported");
  }
  const int components = info.num_components;
  if (components != 1 && components != 3 && components != 4) {
    throw ImageError("a JPEG of " + std::to_string(components) +
                     " colour components; 1, 3 and 4 are supported");
  }
  const int width = s.width();
  const int height = s.height();
  if (int64_t{width} * height > kMaxPixels) {
    throw ImageError(std::to_string(width) + " x " + std::to_string(height) +
                     " pixels, more than the limit of " + std::to_string(kMaxPixels));
  }

  info.out_color_space = components == 4 ? JCS_CMYK : JCS_RGB;
  info.dct_method = JDCT_ISLOW;
  s.library.limitScans(kMaxBlockVisits);
  // Several scans are always read to their end.
  s.needsAll =
      !jpeg_has_multiple_scans(&info) && !endsOrderly(s.library.rest(), s.library.restLength());
  s.orientation = honourOrientation ? readOrientation(bytes, length) : kUpright;
  s.opened = true;
  return swapsSides(s.orientation) ? Info{height, width} : Info{width, height};
}

void JpegDecoder::decode(const Box& wanted, Region& out) {
  State& s = *state;
  jpeg_decompress_struct& info = s.library.info;
  if (!s.opened) throw std::logic_error("no JPEG is open");
  s.opened = false;
  const int width = s.width();
  const int height = s.height();
  const Box whole{0, 0, height, width};
  s.box = storedBox(wanted, s.orientation, width, height);
  if (s.box.top < 0 || s.box.left < 0 || s.box.height < 1 || s.box.width < 1 ||
      s.box.height > height - s.box.top || s.box.width > width - s.box.left) {
    throw std::logic_error("the box is not within the picture");
  }
  if (s.needsAll) s.box = whole;

  std::unique_lock<std::mutex> gate(hugeImages, std::defer_lock);
  if (s.bytesNeeded() > kHugeBytes) gate.lock();
  s.library.stage = LibJpeg::Stage::kScans;
  s.library.require([&info] { jpeg_start_decompress(&info); });
  s.library.stage = LibJpeg::Stage::kRows;
  if (s.library.isSmoothed()) s.box = whole;
  if (s.box.width < width) s.cropColumns();
  if (const auto above = static_cast<JDIMENSION>(s.box.top); above > 0) {
    s.library.require([&info, above] { jpeg_skip_scanlines(&info, above); });
  }

  const size_t stride = static_cast<size_t>(s.box.width) * 3;
  const size_t size = stride * static_cast<size_t>(s.box.height);
  const bool isTurned = s.orientation != kUpright;
  makeRoom(out.bytes, size);
  if (isTurned) makeRoom(s.stored, size);
  uint8_t* pixels = isTurned ? s.stored.data() : out.bytes.data();
  if (info.out_color_space == JCS_CMYK) {
    s.readInkRows(pixels, stride);
  } else {
    s.readRows(pixels, stride);
  }
  // Like PIL, do not mind when nothing but the end is missing.
  if (s.needsAll && !s.library.attempt([&info] { jpeg_finish_decompress(&info); }) &&
      s.library.failure() != LibJpeg::Failure::kTruncated) {
    s.library.throwFailure();
  }
  s.library.close();

  out.box = uprightBox(s.box, s.orientation, width, height);
  out.stride = static_cast<size_t>(out.box.width) * 3;
  if (isTurned) {
    turnUpright(pixels, stride, s.box.width, s.box.height, s.orientation, out.bytes.data());
  }
}

bool jpegSupported() { return true; }

const char* jpegLibraryVersion() { return kVersion; }

#else

namespace moco::image {

struct JpegDecoder::State {};

JpegDecoder::JpegDecoder() = default;

JpegDecoder::Info JpegDecoder::open(const uint8_t*, size_t, bool) {
  throw ImageError("the addon was built without libjpeg-turbo");
}

void JpegDecoder::decode(const Box&, Region&) {
  throw ImageError("the addon was built without libjpeg-turbo");
}

bool jpegSupported() { return false; }

const char* jpegLibraryVersion() { return ""; }

#endif

JpegDecoder::~JpegDecoder() = default;

bool looksLikeJpeg(const uint8_t* bytes, size_t length) {
  return length >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff;
}

}  // namespace moco::image
