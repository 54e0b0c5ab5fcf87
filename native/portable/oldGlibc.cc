// Lets an addon that is built on a newer system load on one with glibc 2.28, the oldest that
// libtorch's own packages run on. Compiled into packaged binaries only (MOCO_PORTABLE). The linker
// sends the calls of these few functions here (--wrap); what is defined outright is hidden.
#include <pthread.h>
#include <sys/stat.h>

#include <cerrno>
#include <condition_variable>
#include <ctime>
#include <mutex>

#if !defined(__linux__) || !defined(__GLIBC__)
#error "MOCO_PORTABLE is for Linux with glibc"
#endif

#if defined(__x86_64__)
#define OLDEST "GLIBC_2.2.5"
#define STAT_VERSION 1
#elif defined(__aarch64__)
#define OLDEST "GLIBC_2.17"
#define STAT_VERSION 0
#else
#error "no list of old symbols for this processor"
#endif

extern "C" {

// 2.34 moved these from libdl to libc.
void* moco_old_dlopen(const char* file, int flags);
__asm__(".symver moco_old_dlopen,dlopen@" OLDEST);
void* __wrap_dlopen(const char* file, int flags) { return moco_old_dlopen(file, flags); }

char* moco_old_dlerror();
__asm__(".symver moco_old_dlerror,dlerror@" OLDEST);
char* __wrap_dlerror() { return moco_old_dlerror(); }

void* moco_old_dlsym(void* handle, const char* name);
__asm__(".symver moco_old_dlsym,dlsym@" OLDEST);
void* __wrap_dlsym(void* handle, const char* name) { return moco_old_dlsym(handle, name); }

// Before 2.33 it was an inline function that calls this one.
int moco_old_fxstat(int version, int file, struct stat* result);
__asm__(".symver moco_old_fxstat,__fxstat@" OLDEST);
int __wrap_fstat(int file, struct stat* result) {
  return moco_old_fxstat(STAT_VERSION, file, result);
}

// libstdc++ of GCC 12 has a second version of it, which only promises more (noexcept).
void moco_old_wait(std::condition_variable* self, std::unique_lock<std::mutex>* lock);
__asm__(
    ".symver "
    "moco_old_wait,_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE@GLIBCXX_3.4.11");
void __wrap__ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE(
    std::condition_variable* self, std::unique_lock<std::mutex>* lock) {
  moco_old_wait(self, lock);
}

// 2.32: shared pointers count without atomics while there is one thread. There never is only one in
// Node.js.
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;

// 2.30: waits by a clock of the caller's choice. As libstdc++ did before, by way of the clock that
// every condition variable knows.
__attribute__((visibility("hidden"))) int pthread_cond_clockwait(pthread_cond_t* condition,
                                                                 pthread_mutex_t* mutex,
                                                                 clockid_t clock,
                                                                 const struct timespec* until) {
  timespec now{};
  timespec real{};
  clock_gettime(clock, &now);
  clock_gettime(CLOCK_REALTIME, &real);
  constexpr long kSecond = 1000000000L;
  timespec target{until->tv_sec - now.tv_sec + real.tv_sec,
                  until->tv_nsec - now.tv_nsec + real.tv_nsec};
  while (target.tv_nsec < 0) {
    target.tv_nsec += kSecond;
    --target.tv_sec;
  }
  while (target.tv_nsec >= kSecond) {
    target.tv_nsec -= kSecond;
    ++target.tv_sec;
  }
  const int result = pthread_cond_timedwait(condition, mutex, &target);
  if (result != ETIMEDOUT) return result;
  // The system's clock may have been set meanwhile: only the caller's tells whether time is up.
  // Early wakers wait again.
  clock_gettime(clock, &now);
  const bool over =
      now.tv_sec > until->tv_sec || (now.tv_sec == until->tv_sec && now.tv_nsec >= until->tv_nsec);
  return over ? ETIMEDOUT : 0;
}

}  // extern "C"
