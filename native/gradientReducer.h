// Averages gradients over the ranks: while backward runs (c10d's Reducer), or afterwards.
#pragma once

#include <memory>
#include <vector>

#include "processGroup.h"

namespace c10d {
class Reducer;
}

namespace moco {

// The all-reduces of one backward, which the Reducer starts as its buckets fill.
struct BucketWork {
  std::shared_ptr<Group> group;
  std::vector<c10::intrusive_ptr<c10d::Work>> works;
  Activity::Clock::time_point since;
  bool sawLast = false;
};

class GradientReducer {
 public:
  GradientReducer(std::shared_ptr<Group> group, std::vector<at::Tensor> parameters,
                  int64_t bucketBytes);
  ~GradientReducer();

  // The next backward averages the gradients as they come.
  void prepare();
  // Averages the gradients that are there.
  void average();

  // After a backward: throws where gradients that were to be averaged were not.
  void finishBackward();
  // After a backward that threw: throws CollectiveFailure where a collective was the reason.
  void explainBackward();

 private:
  void makeReducer();

  std::shared_ptr<Group> group;
  std::vector<at::Tensor> parameters;
  int64_t bucketBytes;
  std::shared_ptr<BucketWork> buckets;
  std::unique_ptr<c10d::Reducer> reducer;
  bool prepared = false;
  int64_t backwards = 0;
};

}  // namespace moco
