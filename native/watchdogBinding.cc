// The watchdog for JavaScript.
#if defined(__linux__)
#include <signal.h>
#include <sys/prctl.h>
#endif

#include "processGroup.h"
#include "watchdog.h"

namespace moco {
namespace {

Watchdog& watchdogAt(napi_env env, napi_value external) {
  void* data = nullptr;
  if (napi_get_value_external(env, external, &data) != napi_ok || data == nullptr) {
    throw std::invalid_argument("expected a watchdog");
  }
  return **static_cast<std::shared_ptr<Watchdog>*>(data);
}

// startWatchdog(host, port, generation, rank, size, hostsStore, storeOwner, limitMs,
//   firstPatienceMs) -> watchdog
napi_value startWatchdog(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<9> arguments(env, info);
    Watchdog::Options options;
    options.host = toString(env, arguments[0]);
    options.port = static_cast<uint16_t>(toInt(env, arguments[1]));
    options.generation = toString(env, arguments[2]);
    options.rank = static_cast<int>(toInt(env, arguments[3]));
    options.size = static_cast<int>(toInt(env, arguments[4]));
    options.hostsStore = toBool(env, arguments[5]);
    options.storeOwner = toString(env, arguments[6]);
    options.limit = std::chrono::milliseconds(toInt(env, arguments[7]));
    options.firstPatience = std::chrono::milliseconds(toInt(env, arguments[8]));
    auto watchdog = std::make_shared<Watchdog>(options, Environment::of(env).activity);
    Watchdog::run(watchdog);
    napi_value result;
    napi_create_external(
        env, new std::shared_ptr<Watchdog>(watchdog),
        [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<Watchdog>*>(data); },
        nullptr, &result);
    return result;
  });
}

// turnWatchdog(watchdog): the main thread is alive
napi_value turnWatchdog(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    watchdogAt(env, arguments[0]).turn();
    return nullptr;
  });
}

napi_value stopWatchdog(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    watchdogAt(env, arguments[0]).stop();
    return nullptr;
  });
}

// watchdogCosts(watchdog) -> [rounds, CPU seconds in them]
napi_value watchdogCosts(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    const auto costs = watchdogAt(env, arguments[0]).costs();
    napi_value result;
    napi_create_array_with_length(env, 2, &result);
    napi_set_element(env, result, 0, fromInt(env, costs.rounds));
    napi_set_element(env, result, 1, fromDouble(env, costs.cpuSeconds));
    return result;
  });
}

// accuse(store, generation, rank, what): a verdict, unless there is one
napi_value accuseRank(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<4> arguments(env, info);
    const auto store = Distributed::of(env).storeAt(toInt(env, arguments[0]));
    accuse(*store, WatchKeys(toString(env, arguments[1])),
           static_cast<int>(toInt(env, arguments[2])), toString(env, arguments[3]));
    return nullptr;
  });
}

// verdict(store, generation) -> { rank, what }, or null
napi_value verdict(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    const auto store = Distributed::of(env).storeAt(toInt(env, arguments[0]));
    const auto found = readVerdict(*store, WatchKeys(toString(env, arguments[1])));
    napi_value result;
    if (!found) {
      napi_get_null(env, &result);
      return result;
    }
    napi_create_object(env, &result);
    napi_set_named_property(env, result, "rank", fromInt(env, found->rank));
    napi_set_named_property(env, result, "what", fromString(env, found->what));
    return result;
  });
}

// endWithParent(): the kernel kills this process when the one that started it ends, stopped or
// not. Linux only; does nothing elsewhere.
napi_value endWithParent(napi_env, napi_callback_info) {
#if defined(__linux__)
  prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
  return nullptr;
}

}  // namespace

void registerWatchdog(napi_env env, napi_value exports) {
  define(env, exports, "startWatchdog", startWatchdog);
  define(env, exports, "turnWatchdog", turnWatchdog);
  define(env, exports, "stopWatchdog", stopWatchdog);
  define(env, exports, "watchdogCosts", watchdogCosts);
  define(env, exports, "accuse", accuseRank);
  define(env, exports, "verdict", verdict);
  define(env, exports, "endWithParent", endWithParent);
}

}  // namespace moco
