#include "inputFile.h"

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "imageError.h"

#ifdef _WIN32
#include <filesystem>
#include <fstream>
#else
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace moco::image {
namespace {

// More than any picture within the limit of pixels takes; a larger file is something else.
constexpr int64_t kMaxBytes = int64_t{1} << 30;

// One huge file must not cost memory for the rest of the run.
constexpr size_t kKeptBytes = size_t{64} << 20;

void makeRoom(std::vector<uint8_t>& bytes, int64_t count) {
  if (count > kMaxBytes) {
    throw ImageError("the file has " + std::to_string(count) + " bytes, more than the limit of " +
                     std::to_string(kMaxBytes));
  }
  if (bytes.capacity() > kKeptBytes) std::vector<uint8_t>().swap(bytes);
  bytes.resize(static_cast<size_t>(count));
}

[[noreturn]] void failPastEnd(int64_t offset, int64_t length, int64_t size) {
  throw ImageError("bytes " + std::to_string(offset) + " to " + std::to_string(offset + length) +
                   " are wanted of a file that has " + std::to_string(size));
}

#ifndef _WIN32

struct File {
  int descriptor;
  ~File() { ::close(descriptor); }
};

const char* nameOf(int error) {
  switch (error) {
    case ENOENT:
      return "ENOENT: ";
    case EACCES:
      return "EACCES: ";
    case ENOTDIR:
      return "ENOTDIR: ";
    case EISDIR:
      return "EISDIR: ";
    case ELOOP:
      return "ELOOP: ";
    case ENAMETOOLONG:
      return "ENAMETOOLONG: ";
    case EIO:
      return "EIO: ";
    default:
      return "";
  }
}

[[noreturn]] void fail(int error) {
  const std::string what = nameOf(error) + std::string(std::strerror(error));
  // Not the image's fault: the process or the machine has run out of something.
  if (error == EMFILE || error == ENFILE || error == ENOMEM) throw std::runtime_error(what);
  throw ImageError(what);
}

#endif

}  // namespace

#ifdef _WIN32

void readInputFile(const std::string& path, int64_t offset, int64_t length,
                   std::vector<uint8_t>& bytes) {
  std::ifstream file(std::filesystem::u8path(path), std::ios::binary | std::ios::ate);
  if (!file) throw ImageError("the file cannot be opened");
  const int64_t size = file.tellg();
  if (offset < 0) {
    offset = 0;
    length = size;
  }
  if (length > size - offset) failPastEnd(offset, length, size);
  makeRoom(bytes, length);
  file.seekg(offset);
  if (length > 0 && !file.read(reinterpret_cast<char*>(bytes.data()), length)) {
    throw ImageError("the file cannot be read");
  }
}

#else

void readInputFile(const std::string& path, int64_t offset, int64_t length,
                   std::vector<uint8_t>& bytes) {
  // Not blocking, as a named pipe without a writer would hold the thread for ever.
  const File file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.descriptor < 0) fail(errno);
  struct stat about;
  if (::fstat(file.descriptor, &about) != 0) fail(errno);
  if (S_ISDIR(about.st_mode)) fail(EISDIR);
  if (!S_ISREG(about.st_mode)) throw ImageError("not a regular file");
  const int64_t size = about.st_size;
  if (offset < 0) {
    offset = 0;
    length = size;
  } else if (length > size - offset) {
    failPastEnd(offset, length, size);
  }
  makeRoom(bytes, length);
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = ::pread(file.descriptor, bytes.data() + done, bytes.size() - done,
                                  offset + static_cast<int64_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(errno);
    if (count == 0) failPastEnd(offset, length, offset + static_cast<int64_t>(done));
    done += static_cast<size_t>(count);
  }
}

#endif

}  // namespace moco::image
