// libjpeg-turbo behind C++: its errors are exceptions, and its input is bytes in memory. Only for
// jpegDecoder.cc.
//
// libjpeg reports errors by a callback that must not return. It is C, which exceptions must not
// cross: the callback jumps back to `attempt`, over C functions and steps that hold nothing to
// destroy.
#pragma once

// libjpeg's header needs size_t and FILE.
#include <cstdio>
// ... and in some versions does not say that it is C.
extern "C" {
#include <jpeglib.h>
}

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

namespace moco::image {

class LibJpeg {
 public:
  enum class Failure { kLibrary, kTruncated, kScans };

  LibJpeg();
  ~LibJpeg() { close(); }
  LibJpeg(const LibJpeg&) = delete;
  LibJpeg& operator=(const LibJpeg&) = delete;

  jpeg_decompress_struct info;
  // How far the image has got, for the message when it is found to be truncated.
  enum class Stage { kHeader, kScans, kRows } stage = Stage::kHeader;

  // A new libjpeg object for these bytes. This costs some microseconds; one that is used again
  // would keep the tables of the image before, and lend them to one that lacks its own.
  void open(const uint8_t* bytes, size_t length);
  void close();

  // Runs a step, which must hold nothing to destroy while it calls libjpeg. False if it failed.
  template <typename Step>
  bool attempt(Step step) {
    static_assert(std::is_trivially_destructible_v<Step>);
    if (setjmp(escape) != 0) return false;
    step();
    return true;
  }
  // The same, but throws an ImageError and closes when the step fails.
  template <typename Step>
  void require(Step step) {
    if (!attempt(step)) throwFailure();
  }
  Failure failure() const { return reason; }
  [[noreturn]] void throwFailure();
  // From within a step.
  [[noreturn]] void fail(Failure why);

  // What is left of the bytes.
  const uint8_t* rest() const { return source.next_input_byte; }
  size_t restLength() const { return source.bytes_in_buffer; }

  // Of all components, once the header was read.
  int64_t blocks() const;
  // The number of scans that a file may have.
  void limitScans(int64_t blockVisits);
  // Whether libjpeg may smooth the blocks of a progressive file whose low frequencies are
  // incomplete; this looks at blocks beyond a crop.
  bool isSmoothed() const;

 private:
  std::string truncation() const;
  std::string libraryMessage() const;

  jpeg_error_mgr errors;
  jpeg_source_mgr source;
  jpeg_progress_mgr progress;
  std::jmp_buf escape;
  Failure reason = Failure::kLibrary;
  bool created = false;
  int64_t maxVisits = 0;
  int64_t maxScans = INT32_MAX;
};

}  // namespace moco::image
