#ifdef MOCO_WITH_JPEG

#include "jpegLibrary.h"

#include <jerror.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "imageError.h"

namespace moco::image {
namespace {

// libjpeg's own table is in an object of its static library that a shared object cannot contain.
#define JCOPYRIGHT ""  // in some versions
#define JCOPYRIGHT_SHORT ""
#define JVERSION ""
#define JMESSAGE(code, text) text,
const char* const kMessages[] = {
#include <jerror.h>
};

LibJpeg& of(j_common_ptr info) { return *static_cast<LibJpeg*>(info->client_data); }
LibJpeg& of(j_decompress_ptr info) { return *static_cast<LibJpeg*>(info->client_data); }

}  // namespace

LibJpeg::LibJpeg() {
  std::memset(&info, 0, sizeof info);
  std::memset(&errors, 0, sizeof errors);
  std::memset(&source, 0, sizeof source);
  std::memset(&progress, 0, sizeof progress);

  errors.error_exit = [](j_common_ptr from) { of(from).fail(Failure::kLibrary); };
  errors.emit_message = [](j_common_ptr from, int level) {
    if (level < 0) ++from->err->num_warnings;
  };
  errors.output_message = [](j_common_ptr) {};
  errors.format_message = [](j_common_ptr, char* text) { *text = '\0'; };
  errors.reset_error_mgr = [](j_common_ptr from) {
    from->err->num_warnings = 0;
    from->err->msg_code = 0;
  };
  errors.jpeg_message_table = kMessages;
  errors.last_jpeg_message = static_cast<int>(std::size(kMessages)) - 1;

  source.init_source = [](j_decompress_ptr) {};
  source.term_source = [](j_decompress_ptr) {};
  source.resync_to_restart = jpeg_resync_to_restart;
  source.fill_input_buffer = [](j_decompress_ptr from) -> boolean {
    of(from).fail(Failure::kTruncated);
  };
  source.skip_input_data = [](j_decompress_ptr from, long count) {
    if (count <= 0) return;
    jpeg_source_mgr& input = *from->src;
    if (static_cast<size_t>(count) > input.bytes_in_buffer) of(from).fail(Failure::kTruncated);
    input.next_input_byte += count;
    input.bytes_in_buffer -= static_cast<size_t>(count);
  };

  progress.progress_monitor = [](j_common_ptr from) {
    LibJpeg& self = of(from);
    if (self.info.input_scan_number > self.maxScans) self.fail(Failure::kScans);
  };
}

void LibJpeg::open(const uint8_t* bytes, size_t length) {
  close();
  info.err = &errors;
  info.client_data = this;
  stage = Stage::kHeader;
  maxScans = INT32_MAX;
  require([this] { jpeg_create_decompress(&info); });
  created = true;
  info.src = &source;
  info.progress = &progress;
  source.next_input_byte = bytes;
  source.bytes_in_buffer = length;
}

void LibJpeg::close() {
  if (created) jpeg_destroy_decompress(&info);
  created = false;
}

void LibJpeg::fail(Failure why) {
  reason = why;
  std::longjmp(escape, 1);
}

void LibJpeg::throwFailure() {
  std::string message;
  switch (reason) {
    case Failure::kLibrary:
      message = libraryMessage();
      break;
    case Failure::kTruncated:
      message = "truncated JPEG: it ends " + truncation();
      break;
    case Failure::kScans:
      message = "more than " + std::to_string(maxScans) + " scans of " + std::to_string(blocks()) +
                " blocks each: more work than the limit of " + std::to_string(maxVisits) +
                " blocks";
      break;
  }
  close();
  throw ImageError(message);
}

std::string LibJpeg::truncation() const {
  switch (stage) {
    case Stage::kHeader:
      return "within its header";
    case Stage::kScans:
      return "within scan " + std::to_string(info.input_scan_number);
    case Stage::kRows:
      break;
  }
  return "after " + std::to_string(info.output_scanline) + " of " +
         std::to_string(info.image_height) + " rows";
}

std::string LibJpeg::libraryMessage() const {
  const int code = errors.msg_code;
  if (code == JERR_OUT_OF_MEMORY) return "not enough memory to decode it";
  const bool isKnown = code > 0 && code <= errors.last_jpeg_message;
  const char* format = kMessages[isKnown ? code : 0];
  char text[JMSG_LENGTH_MAX];
  const auto& numbers = errors.msg_parm.i;
  if (std::strstr(format, "%s") != nullptr) {
    std::snprintf(text, sizeof text, format, errors.msg_parm.s);
  } else {
    std::snprintf(text, sizeof text, format, numbers[0], numbers[1], numbers[2], numbers[3],
                  numbers[4], numbers[5], numbers[6], numbers[7]);
  }
  return std::string("corrupt JPEG: ") + text;
}

int64_t LibJpeg::blocks() const {
  int64_t total = 0;
  for (int i = 0; i < info.num_components; ++i) {
    const jpeg_component_info& component = info.comp_info[i];
    total += int64_t{component.width_in_blocks} * component.height_in_blocks;
  }
  return total;
}

void LibJpeg::limitScans(int64_t blockVisits) {
  maxVisits = blockVisits;
  maxScans = std::max<int64_t>(1, blockVisits / std::max<int64_t>(1, blocks()));
}

bool LibJpeg::isSmoothed() const {
  if (info.coef_bits == nullptr) return false;
  constexpr int kLowFrequencies = 10;
  for (int i = 0; i < info.num_components; ++i) {
    for (int j = 0; j < kLowFrequencies; ++j) {
      if (info.coef_bits[i][j] != 0) return true;
    }
  }
  return false;
}

}  // namespace moco::image

#endif
