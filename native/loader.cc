// Loads shared libraries by path before the addon that needs them. The dynamic linker then finds
// them by name, wherever they live: one binary serves every place that libtorch can be in.
#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif
#include <node_api.h>

#include <string>

namespace {

#ifdef _WIN32

// Untested. Windows looks for what a library needs in the library's own folder, and later finds it
// by its name among those that are loaded.
std::string load(const std::string& path) {
  std::wstring wide(path.size() + 1, L'\0');
  wide.resize(MultiByteToWideChar(CP_UTF8, 0, path.data(), static_cast<int>(path.size()),
                                  wide.data(), static_cast<int>(wide.size())));
  if (LoadLibraryExW(wide.c_str(), nullptr,
                     LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_DEFAULT_DIRS))
    return "";
  return "LoadLibraryEx: error " + std::to_string(GetLastError());
}

#else

// Never unloaded: libtorch's threads and static tables live until the process ends.
std::string load(const std::string& path) {
  return dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE) ? "" : dlerror();
}

#endif

// open(path): throws the dynamic linker's own words when the library does not load.
napi_value open(napi_env env, napi_callback_info info) {
  napi_value argument;
  size_t count = 1;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  size_t length = 0;
  if (napi_get_value_string_utf8(env, argument, nullptr, 0, &length) != napi_ok) {
    napi_throw_type_error(env, nullptr, "open: expected the path of a shared library");
    return nullptr;
  }
  std::string path(length, '\0');
  napi_get_value_string_utf8(env, argument, path.data(), length + 1, &length);
  const std::string failure = load(path);
  if (!failure.empty()) napi_throw_error(env, nullptr, failure.c_str());
  return nullptr;
}

}  // namespace

NAPI_MODULE_INIT() {
  napi_value function;
  napi_create_function(env, "open", NAPI_AUTO_LENGTH, open, nullptr, &function);
  napi_set_named_property(env, exports, "open", function);
  // The libtorch that the addon beside this loader was compiled for: known before it is loaded.
  napi_value version;
  napi_create_string_utf8(env, MOCO_TORCH_VERSION, NAPI_AUTO_LENGTH, &version);
  napi_set_named_property(env, exports, "builtFor", version);
  return exports;
}
