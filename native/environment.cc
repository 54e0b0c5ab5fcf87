#include "environment.h"

#include <cmath>
#include <stdexcept>

namespace moco {

Environment& Environment::of(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return *static_cast<Environment*>(data);
}

int Environment::add(at::Tensor tensor) {
  if (!tensor.defined()) return -1;
  if (!freeSlots.empty()) {
    const int slot = freeSlots.back();
    freeSlots.pop_back();
    tensors[slot] = std::move(tensor);
    return slot;
  }
  tensors.push_back(std::move(tensor));
  return static_cast<int>(tensors.size()) - 1;
}

at::Tensor& Environment::tensorAt(int64_t slot) {
  if (slot < 0 || slot >= static_cast<int64_t>(tensors.size()) || !tensors[slot].defined()) {
    throw std::invalid_argument("slot " + std::to_string(slot) + " holds no tensor");
  }
  return tensors[slot];
}

void Environment::release(int64_t slot) {
  if (slot < 0 || slot >= static_cast<int64_t>(tensors.size()) || !tensors[slot].defined()) return;
  tensors[slot] = at::Tensor();
  freeSlots.push_back(static_cast<int>(slot));
}

void Environment::drainReleases(napi_env env) {
  std::vector<napi_ref> ready;
  {
    std::lock_guard<std::mutex> lock(releases->mutex);
    ready.swap(releases->pending);
  }
  for (napi_ref reference : ready) napi_delete_reference(env, reference);
}

void define(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
  napi_set_named_property(env, exports, name, function);
}

int64_t toInt(napi_env env, napi_value value) {
  int64_t result = 0;
  if (napi_get_value_int64(env, value, &result) != napi_ok) {
    throw std::invalid_argument("expected a whole number");
  }
  return result;
}

double toDouble(napi_env env, napi_value value) {
  double result = 0;
  if (napi_get_value_double(env, value, &result) != napi_ok) {
    throw std::invalid_argument("expected a number");
  }
  return result;
}

bool toBool(napi_env env, napi_value value) {
  bool result = false;
  if (napi_get_value_bool(env, value, &result) != napi_ok) {
    throw std::invalid_argument("expected a boolean");
  }
  return result;
}

std::string toString(napi_env env, napi_value value) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) {
    throw std::invalid_argument("expected a string");
  }
  std::string result(length, '\0');
  napi_get_value_string_utf8(env, value, result.data(), length + 1, &length);
  return result;
}

bool isNullish(napi_env env, napi_value value) {
  napi_valuetype type;
  napi_typeof(env, value, &type);
  return type == napi_undefined || type == napi_null;
}

std::vector<int64_t> toInts(napi_env env, napi_value array) {
  uint32_t length = 0;
  if (napi_get_array_length(env, array, &length) != napi_ok) {
    throw std::invalid_argument("expected an array of whole numbers");
  }
  std::vector<int64_t> result(length);
  for (uint32_t i = 0; i < length; i++) {
    napi_value element;
    napi_get_element(env, array, i, &element);
    result[i] = toInt(env, element);
  }
  return result;
}

napi_value fromInt(napi_env env, int64_t value) {
  constexpr int64_t kSafe = 9007199254740991;
  napi_value result;
  if (value >= -kSafe && value <= kSafe) {
    napi_create_int64(env, value, &result);
  } else {
    napi_create_bigint_int64(env, value, &result);
  }
  return result;
}

napi_value fromDouble(napi_env env, double value) {
  napi_value result;
  napi_create_double(env, value, &result);
  return result;
}

napi_value fromBool(napi_env env, bool value) {
  napi_value result;
  napi_get_boolean(env, value, &result);
  return result;
}

napi_value fromString(napi_env env, const std::string& value) {
  napi_value result;
  napi_create_string_utf8(env, value.data(), value.size(), &result);
  return result;
}

napi_value fromInts(napi_env env, c10::IntArrayRef values) {
  napi_value result;
  napi_create_array_with_length(env, values.size(), &result);
  for (size_t i = 0; i < values.size(); i++)
    napi_set_element(env, result, i, fromInt(env, values[i]));
  return result;
}

napi_value fromScalar(napi_env env, const c10::Scalar& value) {
  if (value.isBoolean()) return fromBool(env, value.toBool());
  if (value.isIntegral(false)) return fromInt(env, value.toLong());
  if (value.isComplex()) {
    const auto complex = value.toComplexDouble();
    napi_value result;
    napi_create_object(env, &result);
    napi_set_named_property(env, result, "real", fromDouble(env, complex.real()));
    napi_set_named_property(env, result, "imag", fromDouble(env, complex.imag()));
    return result;
  }
  return fromDouble(env, value.toDouble());
}

}  // namespace moco
