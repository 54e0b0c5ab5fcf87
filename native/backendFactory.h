// How another addon gives this one a backend that it does not link to, such as NCCL: it exports a
// Node-API external, tagged so that no other can be taken for it, that holds a BackendFactory.
#pragma once

#include <node_api.h>

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace moco {

using BackendFactory = c10::intrusive_ptr<c10d::Backend> (*)(
    const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, int64_t timeoutMs);

constexpr napi_type_tag kBackendFactoryTag = {0x6d6f636f2d763320, 0x6261636b656e6420};

}  // namespace moco
