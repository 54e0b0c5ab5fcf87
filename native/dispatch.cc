// One function reaches every ATen operator: the schema is resolved once, the call is boxed.
//
// JavaScript writes each argument into a shared Float64Array as a tag followed by its payload, so a
// call crosses the language border once, with one integer. The tags are those of
// lib/torch/encode.ts.
#include <ATen/core/ivalue.h>
#include <c10/util/Exception.h>

#include <algorithm>

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
  Reader(napi_env env, Environment& environment, napi_value strings)
      : env_(env), environment_(environment), strings_(strings) {}

  c10::IValue argument(const c10::Argument& declared) {
    switch (static_cast<int>(next())) {
      case kDefault:
        if (!declared.default_value()) {
          throw std::invalid_argument("argument '" + declared.name() + "' is missing");
        }
        return *declared.default_value();
      case kNone:
        return c10::IValue();
      case kTensor:
        return environment_.tensorAt(static_cast<int64_t>(next()));
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
        return list<at::Tensor>(
            [this] { return environment_.tensorAt(static_cast<int64_t>(next())); });
      case kOptionalTensors:
        return list<std::optional<at::Tensor>>([this]() -> std::optional<at::Tensor> {
          const auto slot = static_cast<int64_t>(next());
          if (slot < 0) return std::nullopt;
          return environment_.tensorAt(slot);
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

 private:
  double next() {
    if (position_ >= environment_.argumentCapacity) {
      throw std::length_error("arguments beyond the shared buffer");
    }
    return environment_.arguments[position_++];
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
    napi_value element;
    napi_get_element(env_, strings_, static_cast<uint32_t>(next()), &element);
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
  Environment& environment_;
  napi_value strings_;
  size_t position_ = 0;
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

// call(operator: number, strings?: string[]) -> slot | array of the returned values.
// A return that is one of the arguments (in-place, out=) comes back as null.
napi_value call(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Arguments<2> arguments(env, info);
    Environment& environment = Environment::of(env);
    auto& calls = environment.activity->calls;
    calls.store(calls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    int32_t id = -1;
    napi_get_value_int32(env, arguments[0], &id);
    const Operator& op = environment.operators.at(id);
    const c10::FunctionSchema& schema = op.handle.schema();

    c10::Stack& stack = environment.stack;
    // Whatever happens, no argument or result outlives the call on the stack.
    const struct Clear {
      c10::Stack& stack;
      ~Clear() { stack.clear(); }
    } clear{stack};
    Reader reader(env, environment, arguments[1]);
    for (const c10::Argument& declared : schema.arguments()) {
      stack.push_back(reader.argument(declared));
    }
    op.handle.callBoxed(stack);

    if (op.aliasOf.size() == 1) {
      if (op.aliasOf[0] >= 0) return nullptr;
      if (stack[0].isTensor()) {
        const int slot = environment.add(std::move(stack[0]).toTensor());
        napi_value result;
        napi_create_int32(env, slot, &result);
        return result;
      }
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
      Operator op{*handle, {}};
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
