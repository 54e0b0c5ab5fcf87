// Reading a part of a file, and its checksum, on a thread of libuv's pool.
#include <errno.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "promise.h"

#ifndef _WIN32
#include <dlfcn.h>
#include <unistd.h>
#endif

namespace moco {
namespace {

#ifndef _WIN32

// zlib's, which Node.js carries and exports: with the processor's own instructions for it.
using Checksum = unsigned long (*)(unsigned long, const unsigned char*, unsigned int);

// Small enough to stay in the processor's cache between reading and checksum.
constexpr size_t kChunk = size_t{1} << 20;

struct FileRead {
  Checksum checksum;
  int file;
  uint8_t* bytes;
  size_t length;
  off_t position;
  unsigned long crc;
  size_t done = 0;
};

void run(FileRead& read) {
  while (read.done < read.length) {
    const size_t wanted = std::min(kChunk, read.length - read.done);
    const ssize_t count = pread(read.file, read.bytes + read.done, wanted,
                                read.position + static_cast<off_t>(read.done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw std::runtime_error(std::strerror(errno));
    if (count == 0) return;
    read.crc = read.checksum(read.crc, read.bytes + read.done, static_cast<unsigned int>(count));
    read.done += static_cast<size_t>(count);
  }
}

// readChecked(file, bytes, position, crc) -> promise of [bytes read, CRC-32 of them after `crc`].
// Fewer bytes than asked for: the file ends there. The file must stay open until then.
napi_value readChecked(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<4> arguments(env, info);
    const auto read = std::make_shared<FileRead>();
    read->checksum = reinterpret_cast<Checksum>(dlsym(RTLD_DEFAULT, "crc32"));
    read->file = static_cast<int>(toInt(env, arguments[0]));
    napi_typedarray_type type;
    void* bytes = nullptr;
    if (napi_get_typedarray_info(env, arguments[1], &type, &read->length, &bytes, nullptr,
                                 nullptr) != napi_ok ||
        type != napi_uint8_array) {
      throw std::invalid_argument("expected a Uint8Array to read into");
    }
    read->bytes = static_cast<uint8_t*>(bytes);
    read->position = static_cast<off_t>(toInt(env, arguments[2]));
    read->crc = static_cast<unsigned long>(toInt(env, arguments[3]));
    napi_ref target = nullptr;  // keeps the memory while it is written to
    napi_create_reference(env, arguments[1], 1, &target);
    return promise(
        env, "moco file read", [=] { run(*read); },
        [=](napi_env env) {
          napi_value answer;
          napi_create_array_with_length(env, 2, &answer);
          napi_set_element(env, answer, 0, fromDouble(env, static_cast<double>(read->done)));
          napi_set_element(env, answer, 1, fromDouble(env, static_cast<double>(read->crc)));
          return answer;
        },
        [=](napi_env env) { napi_delete_reference(env, target); });
  });
}

#endif

}  // namespace

// Without the function, JavaScript reads and computes the checksum itself.
void registerFileRead(napi_env env, napi_value exports) {
#ifndef _WIN32
  if (dlsym(RTLD_DEFAULT, "crc32") != nullptr) define(env, exports, "readChecked", readChecked);
#endif
}

}  // namespace moco
