// One function reaches every ATen operator: the schema is resolved once, the call is boxed.
//
// JavaScript writes the operator, how many arguments it gives, and each argument as a tag followed
// by its payload into a shared Float64Array, and finds there the slot of the tensor that comes
// back: a call crosses the language border once and makes no handle. The tags are those of
// lib/torch/encode.ts.
#include <ATen/core/ivalue.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/Exception.h>

#include <algorithm>

#include "customFunction.h"
#include "environment.h"

namespace moco {
namespace {

enum Tag : int {
  kDefault = 0,
  kNone = 1,
  kTensor = 2,
  kDouble = 3,
  kInt = 4,
  kBool = 5,
  kString = 6,
  kInts = 7,
  kDoubles = 8,
  kBools = 9,
  kTensors = 10,
  kOptionalTensors = 11,
  kBigInt = 12,
  kDevice = 13,
  kGenerator = 14,
  kScalars = 15,
  kComplex = 16,
  kStrings = 17,
};

// Reads arguments from the shared buffer in the order JavaScript wrote them.
class Reader {
 public:
  Reader(napi_env env, napi_callback_info info, Environment& environment)
      : env_(env), info_(info), environment_(environment) {}

  int64_t integer() { return static_cast<int64_t>(next()); }

  // Whether there were tensors, and autograd has nothing to do with any of them.
  bool isOutsideAutograd() const { return tensors_ && !autograd_; }

  c10::IValue argument(const c10::Argument& declared) {
    switch (static_cast<int>(next())) {
      case kDefault:
        return defaultOf(declared);
      case kNone:
        return c10::IValue();
      case kTensor:
        return tensor(integer());
      case kDouble:
        return next();
      case kInt:
        return static_cast<int64_t>(next());
      case kBool:
        return next() != 0;
      case kString:
        return string();
      case kInts:
        return list<int64_t>([this] { return static_cast<int64_t>(next()); });
      case kDoubles:
        return list<double>([this] { return next(); });
      case kBools:
        return list<bool>([this] { return next() != 0; });
      case kTensors:
        return list<at::Tensor>([this] { return tensor(integer()); });
      case kOptionalTensors:
        return list<std::optional<at::Tensor>>([this]() -> std::optional<at::Tensor> {
          const int64_t slot = integer();
          if (slot < 0) return std::nullopt;
          return tensor(slot);
        });
      case kBigInt:
        return bigInt();
      case kDevice: {
        const auto type = static_cast<c10::DeviceType>(static_cast<int>(next()));
        return c10::Device(type, static_cast<c10::DeviceIndex>(next()));
      }
      case kGenerator:
        return environment_.generators.at(static_cast<size_t>(next()));
      case kScalars:
        return list<c10::Scalar>([this]() -> c10::Scalar {
          switch (static_cast<int>(next())) {
            case kInt:
              return static_cast<int64_t>(next());
            case kBool:
              return next() != 0;
            case kBigInt:
              return bigInt();
            case kComplex:
              return complex();
            default:
              return next();
          }
        });
      case kComplex:
        return complex();
      case kStrings:
        return list<std::string>([this] { return string(); });
    }
    throw std::logic_error("argument '" + declared.name() + "' has an unknown encoding");
  }

  static const c10::IValue& defaultOf(const c10::Argument& declared) {
    if (!declared.default_value()) {
      throw std::invalid_argument("argument '" + declared.name() + "' is missing");
    }
    return *declared.default_value();
  }

 private:
  double next() {
    if (position_ >= environment_.argumentCapacity) {
      throw std::length_error("arguments beyond the shared buffer");
    }
    return environment_.arguments[position_++];
  }

  const at::Tensor& tensor(int64_t slot) {
    const at::Tensor& found = environment_.tensorAt(slot);
    tensors_ = true;
    // Forward-mode gradients cannot be asked for from JavaScript.
    if (found.unsafeGetTensorImpl()->autograd_meta() != nullptr && at::GradMode::is_enabled()) {
      autograd_ = true;
    }
    return found;
  }

  int64_t bigInt() {
    const auto high = static_cast<int64_t>(next());
    const auto low = static_cast<uint64_t>(next());
    return static_cast<int64_t>((static_cast<uint64_t>(high) << 32) | low);
  }

  c10::complex<double> complex() {
    const double real = next();
    return c10::complex<double>(real, next());
  }

  std::string string() {
    const Arguments<1> arguments(env_, info_);
    napi_value element;
    napi_get_element(env_, arguments[0], static_cast<uint32_t>(next()), &element);
    return toString(env_, element);
  }

  template <typename T, typename Read>
  c10::IValue list(Read&& read) {
    const auto size = static_cast<size_t>(next());
    c10::List<T> result;
    result.reserve(size);
    for (size_t i = 0; i < size; i++) result.push_back(read());
    return result;
  }

  napi_env env_;
  napi_callback_info info_;
  Environment& environment_;
  size_t position_ = 0;
  bool tensors_ = false;
  bool autograd_ = false;
};

napi_value toJavaScript(napi_env env, Environment& environment, const c10::IValue& value) {
  if (value.isTensor()) return fromInt(env, environment.add(value.toTensor()));
  if (value.isBool()) return fromBool(env, value.toBool());
  if (value.isInt()) return fromInt(env, value.toInt());
  if (value.isDouble()) return fromDouble(env, value.toDouble());
  if (value.isString()) return fromString(env, value.toStringRef());
  if (value.isDevice()) return fromString(env, value.toDevice().str());
  if (value.isScalar()) return fromScalar(env, value.toScalar());
  if (value.isList()) {
    const auto list = value.toListRef();
    napi_value result;
    napi_create_array_with_length(env, list.size(), &result);
    for (size_t i = 0; i < list.size(); i++) {
      napi_set_element(env, result, i, toJavaScript(env, environment, list[i]));
    }
    return result;
  }
  napi_value null;
  napi_get_null(env, &null);
  return null;
}

// call(strings?: string[]) -> array of the returned values; or nothing, where the operator returns
// one tensor, whose slot is then the buffer's first number, or one of its arguments.
// Among several, a return that is one of the arguments (in-place, out=) comes back as null.
napi_value call(napi_env env, napi_callback_info info) {
  return guardedPass(env, [&]() -> napi_value {
    Environment& environment = Environment::of(env);
    auto& calls = environment.activity->calls;
    calls.store(calls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    Reader reader(env, info, environment);
    const Operator& op = environment.operators.at(static_cast<size_t>(reader.integer()));
    int64_t given = reader.integer();

    c10::Stack& stack = environment.stack;
    // Whatever happens, no argument or result outlives the call on the stack.
    const struct Clear {
      c10::Stack& stack;
      ~Clear() { stack.clear(); }
    } clear{stack};
    for (const c10::Argument& declared : op.handle.schema().arguments()) {
      stack.push_back(given-- > 0 ? reader.argument(declared) : Reader::defaultOf(declared));
    }
    if (op.layers && reader.isOutsideAutograd()) {
      const c10::impl::ExcludeDispatchKeyGuard without(*op.layers);
      op.handle.callBoxed(stack);
    } else {
      op.handle.callBoxed(stack);
    }

    if (op.returnsOne) {
      if (op.aliasOf[0] < 0) {
        environment.arguments[0] = environment.add(std::move(stack[0]).toTensor());
      }
      return nullptr;
    }
    napi_value results;
    napi_create_array_with_length(env, op.aliasOf.size(), &results);
    for (size_t i = 0; i < op.aliasOf.size(); i++) {
      napi_value result;
      napi_get_null(env, &result);
      if (op.aliasOf[i] < 0) result = toJavaScript(env, environment, stack[i]);
      napi_set_element(env, results, i, result);
    }
    return results;
  });
}

// schemas() -> every ATen schema that the dispatcher knows, as text.
napi_value schemas(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    napi_value result;
    napi_create_array(env, &result);
    uint32_t count = 0;
    auto& dispatcher = c10::Dispatcher::singleton();
    for (const c10::OperatorName& name : dispatcher.getAllOpNames()) {
      if (name.name.rfind("aten::", 0) != 0) continue;
      const auto handle = dispatcher.findSchema(name);
      if (!handle) continue;
      napi_set_element(env, result, count++, fromString(env, c10::toString(handle->schema())));
    }
    return result;
  });
}

// The layers of the dispatcher that do nothing in a call without gradients, as autograd's own
// kernel of the operator leaves them out for what it calls in turn: for views all but that which
// links a view to its base. None for operators that write to an argument, and for those made of
// others, some of which may be views.
std::optional<c10::DispatchKeySet> layersForGradients(const c10::OperatorHandle& handle) {
  const c10::FunctionSchema& schema = handle.schema();
  const std::string& name = schema.name();
  // What these do, or refuse, only autograd's kernels know.
  if (name.rfind("aten::_make_dual", 0) == 0 || name.rfind("aten::_fw_primal", 0) == 0) {
    return std::nullopt;
  }
  bool isView = false;
  for (const c10::Argument& each : schema.arguments()) {
    if (each.alias_info() == nullptr) continue;
    if (each.alias_info()->isWrite()) return std::nullopt;
    isView = true;
  }
  if (isView) return c10::autograd_dispatch_keyset;
  if (handle.hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd)) {
    return std::nullopt;
  }
  return c10::autograd_dispatch_keyset_with_ADInplaceOrView;
}

// resolve(name, overload) -> { id, schema } or null when there is no such operator.
napi_value resolve(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    Environment& environment = Environment::of(env);
    const std::string name = toString(env, arguments[0]);
    const std::string overload = toString(env, arguments[1]);
    const auto handle = c10::Dispatcher::singleton().findSchema({name, overload});
    if (!handle) {
      napi_value null;
      napi_get_null(env, &null);
      return null;
    }
    const c10::FunctionSchema& schema = handle->schema();
    const std::string key = name + "." + overload;
    auto known = environment.operatorIds.find(key);
    if (known == environment.operatorIds.end()) {
      Operator op{*handle};
      for (const c10::Argument& returned : schema.returns()) {
        int alias = -1;
        const c10::AliasInfo* returnedAlias = returned.alias_info();
        if (returnedAlias && returnedAlias->isWrite() &&
            returned.type()->kind() == c10::TypeKind::TensorType) {
          for (size_t i = 0; i < schema.arguments().size() && alias < 0; i++) {
            const c10::AliasInfo* given = schema.arguments()[i].alias_info();
            if (given && given->isWrite() && given->beforeSets() == returnedAlias->beforeSets()) {
              alias = static_cast<int>(i);
            }
          }
        }
        op.aliasOf.push_back(alias);
      }
      op.returnsOne = schema.returns().size() == 1 &&
                      schema.returns()[0].type()->kind() == c10::TypeKind::TensorType;
      op.layers = layersForGradients(*handle);
      environment.operators.push_back(std::move(op));
      known =
          environment.operatorIds.emplace(key, static_cast<int>(environment.operators.size()) - 1)
              .first;
    }
    napi_value result;
    napi_create_object(env, &result);
    napi_set_named_property(env, result, "id", fromInt(env, known->second));
    napi_set_named_property(env, result, "schema", fromString(env, c10::toString(schema)));
    return result;
  });
}

// overloads() -> for each operator name the names of its overloads, sorted.
napi_value overloads(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    napi_value result;
    napi_create_object(env, &result);
    std::unordered_map<std::string, std::vector<std::string>> table;
    for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames()) {
      if (name.name.rfind("aten::", 0) == 0)
        table[name.name.substr(6)].push_back(name.overload_name);
    }
    for (auto& [name, names] : table) {
      napi_value list;
      napi_create_array_with_length(env, names.size(), &list);
      std::sort(names.begin(), names.end());
      for (size_t i = 0; i < names.size(); i++)
        napi_set_element(env, list, i, fromString(env, names[i]));
      napi_set_named_property(env, result, name.c_str(), list);
    }
    return result;
  });
}

// argumentBuffer(length) -> Float64Array's ArrayBuffer that call() reads from now on.
napi_value argumentBuffer(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    Environment& environment = Environment::of(env);
    const auto length = static_cast<size_t>(toInt(env, arguments[0]));
    void* data = nullptr;
    napi_value buffer;
    napi_create_arraybuffer(env, length * sizeof(double), &data, &buffer);
    if (environment.argumentBuffer) napi_delete_reference(env, environment.argumentBuffer);
    napi_create_reference(env, buffer, 1, &environment.argumentBuffer);
    environment.arguments = static_cast<double*>(data);
    environment.argumentCapacity = length;
    return buffer;
  });
}

// free(count): releases the slots that JavaScript wrote into the argument buffer.
napi_value free(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<1> arguments(env, info);
    Environment& environment = Environment::of(env);
    const auto count = static_cast<size_t>(toInt(env, arguments[0]));
    if (count > environment.argumentCapacity) throw std::length_error("more slots than the buffer");
    for (size_t i = 0; i < count; i++) {
      environment.release(static_cast<int64_t>(environment.arguments[i]));
    }
    environment.drainReleases(env);
    return nullptr;
  });
}

}  // namespace

void registerDispatch(napi_env env, napi_value exports) {
  define(env, exports, "call", call);
  define(env, exports, "schemas", schemas);
  define(env, exports, "resolve", resolve);
  define(env, exports, "overloads", overloads);
  define(env, exports, "argumentBuffer", argumentBuffer);
  define(env, exports, "free", free);
}

}  // namespace moco
