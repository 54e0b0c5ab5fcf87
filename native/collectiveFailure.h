// A collective did not end: a peer died or hung, or the network failed.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

namespace moco {

struct CollectiveFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
  int rank = -1;
  int size = 0;
  int64_t step = -1;
  std::string collective;
  double seconds = 0;       // how long it ran
  bool timedOut = false;    // rather than broken
  bool storeLost = false;   // rank 0, or the launcher, which has the store, does not answer either
  std::vector<int> silent;  // ranks that did not tell that they saw the failure too
};

}  // namespace moco
