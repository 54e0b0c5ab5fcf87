// A library that is there on some machines only: opened by name, its functions by theirs. None is
// ever closed, as what it made may outlive any owner here.
#pragma once

#include <dlfcn.h>

#include <stdexcept>
#include <string>

namespace moco {

class SharedLibrary {
 public:
  explicit SharedLibrary(const std::string& path) : handle(dlopen(path.c_str(), RTLD_NOW)) {
    if (handle == nullptr) throw std::runtime_error(dlerror());
  }

  // The function of this name, as `Function` has it.
  template <typename Function>
  Function* find(const char* name) const {
    void* symbol = dlsym(handle, name);
    if (symbol == nullptr) throw std::runtime_error(dlerror());
    return reinterpret_cast<Function*>(symbol);
  }

 private:
  void* handle;
};

}  // namespace moco
