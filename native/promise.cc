#include "promise.h"

namespace moco {
namespace {

struct Job {
  napi_async_work work = nullptr;
  napi_deferred deferred = nullptr;
  std::function<void()> body;
  std::function<napi_value(napi_env)> answer;
  std::function<void(napi_env)> release;
  std::string error;
};

void execute(napi_env, void* data) {
  auto& job = *static_cast<Job*>(data);
  try {
    job.body();
  } catch (const c10::Error& error) {
    job.error = error.what_without_backtrace();
  } catch (const std::exception& error) {
    job.error = error.what();
  } catch (...) {
    job.error = "an unknown C++ exception";
  }
}

void complete(napi_env env, napi_status status, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  if (job->release) job->release(env);
  napi_delete_async_work(env, job->work);
  if (status != napi_ok && job->error.empty()) job->error = "the work was cancelled";
  if (job->error.empty()) {
    napi_resolve_deferred(env, job->deferred, job->answer(env));
  } else {
    napi_value error;
    napi_create_error(env, nullptr, fromString(env, job->error), &error);
    napi_reject_deferred(env, job->deferred, error);
  }
}

}  // namespace

napi_value promise(napi_env env, const char* name, std::function<void()> body,
                   std::function<napi_value(napi_env)> answer,
                   std::function<void(napi_env)> release) {
  auto job = std::make_unique<Job>();
  job->body = std::move(body);
  job->answer = std::move(answer);
  job->release = std::move(release);
  napi_value result;
  napi_create_promise(env, &job->deferred, &result);
  napi_create_async_work(env, nullptr, fromString(env, name), execute, complete, job.get(),
                         &job->work);
  napi_queue_async_work(env, job->work);
  job.release();
  return result;
}

}  // namespace moco
