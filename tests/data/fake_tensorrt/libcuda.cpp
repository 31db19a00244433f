// The part of NVIDIA's driver library that the Python runner uses. FAKE_CAPABILITY=major.minor says what GPU it has;
// without it there is none. Copies are made when the stream is waited for, and new memory is filled with 0xFF.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <set>
#include <vector>

using Status = int;
using Clock = std::chrono::steady_clock;

namespace {
constexpr Status OK = 0, NO_DEVICE = 100, INVALID_VALUE = 1;
std::set<void const*> on_gpu;
std::vector<std::function<void()>> waiting;
}  // namespace

extern "C" {
Status cuGetErrorString(Status status, char const** text) {
  *text = status == NO_DEVICE ? "no CUDA-capable device is detected" : "invalid argument";
  return OK;
}
Status cuInit(unsigned) { return std::getenv("FAKE_CAPABILITY") != nullptr ? OK : NO_DEVICE; }
Status cuDeviceGet(int* device, int index) {
  *device = index;
  return index == 0 ? OK : 101;
}
Status cuDeviceGetName(char* name, int, int) {
  std::strcpy(name, "Fake GPU");
  return OK;
}
Status cuDeviceGetAttribute(int* value, int attribute, int) {
  char const* const capability = std::getenv("FAKE_CAPABILITY");
  *value = std::atoi(attribute == 75 ? capability : std::strchr(capability, '.') + 1);
  return OK;
}
Status cuDevicePrimaryCtxRetain(void** context, int) {
  *context = &on_gpu;
  return OK;
}
Status cuDevicePrimaryCtxRelease_v2(int) { return on_gpu.empty() ? OK : INVALID_VALUE; }
Status cuCtxSetCurrent(void* context) { return context == &on_gpu ? OK : INVALID_VALUE; }
Status cuStreamCreate(void** stream, unsigned) {
  *stream = &waiting;
  return OK;
}
Status cuStreamSynchronize(void* stream) {
  if (stream != &waiting) return INVALID_VALUE;
  std::vector<std::function<void()>> work;
  work.swap(waiting);
  for (auto const& step : work) step();
  return OK;
}
Status cuStreamDestroy_v2(void* stream) { return stream == &waiting ? OK : INVALID_VALUE; }
Status cuMemAlloc_v2(void** address, size_t size) {
  *address = std::malloc(size);
  std::memset(*address, 0xff, size);
  on_gpu.insert(*address);
  return OK;
}
Status cuMemFree_v2(void* address) {
  if (on_gpu.erase(address) == 0) return INVALID_VALUE;
  std::free(address);
  return OK;
}
Status cuMemcpyHtoDAsync_v2(void* to, void const* from, size_t size, void*) {
  if (on_gpu.count(to) == 0) return INVALID_VALUE;
  waiting.emplace_back([=] { std::memcpy(to, from, size); });
  return OK;
}
Status cuMemcpyDtoHAsync_v2(void* to, void const* from, size_t size, void*) {
  if (on_gpu.count(from) == 0) return INVALID_VALUE;
  waiting.emplace_back([=] { std::memcpy(to, from, size); });
  return OK;
}
Status cuEventCreate(void** event, unsigned) {
  *event = new Clock::time_point;
  return OK;
}
Status cuEventRecord(void* event, void*) {
  waiting.emplace_back([=] { *static_cast<Clock::time_point*>(event) = Clock::now(); });
  return OK;
}
Status cuEventElapsedTime(float* ms, void* start, void* end) {
  auto const time = [](void* event) { return *static_cast<Clock::time_point*>(event); };
  *ms = std::chrono::duration<float, std::milli>(time(end) - time(start)).count();
  return OK;
}
Status cuEventDestroy_v2(void* event) {
  delete static_cast<Clock::time_point*>(event);
  return OK;
}
// Not CUDA's: lets the pretended engine run in the stream, as kernels do.
Status fake_launch(void (*kernel)()) {
  waiting.emplace_back(kernel);
  return OK;
}
}
