// A plan of TensorRT 8.6 to 11 or of TensorRT-RTX, open on a GPU. Whatever fails throws npy::Failure.
#pragma once

#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <iostream>
#include <limits>
#include <memory>
#include <utility>

#include "npy.hpp"

// TensorRT-RTX counts its releases from 1, and has what TensorRT 10 has.
#if defined(TRT_MAJOR_RTX) || NV_TENSORRT_MAJOR >= 10
#define HAS_INTERFACE_10 1
#endif

extern "C" int32_t getInferLibVersion() noexcept;
#ifdef WITH_PLUGINS
extern "C" bool initLibNvInferPlugins(void* logger, char const* libNamespace);
#endif

using npy::Array;
using npy::Failure;
using Arrays = std::map<std::string, Array>;

inline void check(cudaError_t const status, std::string const& doing) {
  if (status != cudaSuccess) throw Failure("CUDA cannot " + doing + ": " + cudaGetErrorString(status) + ".");
}

class Logger : public nvinfer1::ILogger {
 public:
  void log(Severity severity, char const* message) noexcept override {
    if (severity <= Severity::kERROR) last_ = message;
  }

  // `holds` false: fails with what TensorRT said last.
  void require(bool const holds, std::string const& otherwise) const {
    if (!holds) throw Failure(otherwise + ": " + (last_.empty() ? "TensorRT gives no reason" : last_));
  }

 private:
  std::string last_;
};

class Stream {
 public:
  explicit Stream(int const device) {
    check(cudaSetDevice(device), "use GPU " + std::to_string(device));
    check(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "make a stream");
  }
  ~Stream() { cudaStreamDestroy(handle_); }
  Stream(Stream const&) = delete;
  Stream& operator=(Stream const&) = delete;

  cudaStream_t get() const { return handle_; }
  void wait() const { check(cudaStreamSynchronize(handle_), "finish its work"); }

 private:
  cudaStream_t handle_ = nullptr;
};

class Event {
 public:
  Event() { check(cudaEventCreate(&handle_), "make an event"); }
  ~Event() { cudaEventDestroy(handle_); }
  Event(Event const&) = delete;
  Event& operator=(Event const&) = delete;

  void record(Stream const& stream) const { check(cudaEventRecord(handle_, stream.get()), "record an event"); }
  double ms_since(Event const& start) const {
    float ms = 0.0F;
    check(cudaEventElapsedTime(&ms, start.handle_, handle_), "tell the time between two events");
    return ms;
  }

 private:
  cudaEvent_t handle_ = nullptr;
};

// Memory on the GPU that grows when more is wanted.
class Memory {
 public:
  Memory() = default;
  ~Memory() { cudaFree(address_); }
  Memory(Memory const&) = delete;
  Memory& operator=(Memory const&) = delete;

  void* hold(size_t const size) {
    if (address_ == nullptr || size > held_) {
      check(cudaFree(std::exchange(address_, nullptr)), "give memory back");
      held_ = std::max<size_t>(size, 256);
      check(cudaMalloc(&address_, held_), "allocate " + std::to_string(held_) + " bytes on the GPU");
    }
    return address_;
  }
  void* get() const { return address_; }

 private:
  void* address_ = nullptr;
  size_t held_ = 0;
};

// Memory for an output whose size only a run tells.
class Allocator : public nvinfer1::IOutputAllocator {
 public:
  explicit Allocator(Memory& memory) : memory_(memory) {}

#ifdef HAS_INTERFACE_10
  void* reallocateOutputAsync(char const*, void*, uint64_t size, uint64_t, cudaStream_t) override {
    return allocate(size);
  }
#else
  void* reallocateOutput(char const*, void*, uint64_t size, uint64_t) noexcept override { return allocate(size); }
#endif
  void notifyShape(char const*, nvinfer1::Dims const& dims) noexcept override {
    shape.assign(dims.d, dims.d + std::max(dims.nbDims, 0));
  }

  npy::Shape shape;

 private:
  // Errors must not cross into TensorRT: without memory the run fails.
  void* allocate(uint64_t const size) noexcept {
    try {
      return memory_.hold(size);
    } catch (Failure const&) {
      return nullptr;
    }
  }

  Memory& memory_;
};

struct Tensor {
  std::string type;  // numpy's; of bfloat16 its bits, u2
  bool is_bfloat16;
  bool is_input;
  bool is_on_host;  // the engine reads or writes it on the host, for sizes depend on it
};

class Engine {
 public:
  // host_code: the plan is version-compatible, and brings a small runtime along.
  Engine(std::filesystem::path const& plan, bool host_code, int device);

  std::vector<std::string> names(bool inputs) const;
  // Any shapes that an optimization profile takes.
  Arrays run(Arrays const& feeds);
  // The GPU's time of each repetition of the last run; inputs and outputs stay where they are.
  std::vector<double> times_ms(int count);

 private:
  static std::vector<char> read(std::filesystem::path const& plan);
  Tensor describe(char const* name) const;
  void set_input(std::string const& name, Array const& array);
  void set_output(std::string const& name);
  Array fetch(std::string const& name);
  void choose_profile();
  std::string misfit(int profile) const;
  void enqueue();

  Logger logger_;
  Stream stream_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::map<std::string, Memory> memory_;
  std::map<std::string, Allocator> allocators_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;  // gone before the memory it uses
  std::vector<std::string> order_;
  std::map<std::string, Tensor> tensors_;
  Arrays host_;  // inputs in the engine's type, and outputs that the engine writes on the host
  int profile_ = 0;
};

inline npy::Shape shape_of(nvinfer1::Dims const& dims) {
  return npy::Shape(dims.d, dims.d + std::max<int>(dims.nbDims, 0));
}

inline nvinfer1::Dims dims_of(npy::Shape const& shape) {
  nvinfer1::Dims dims{};
  dims.nbDims = static_cast<int32_t>(shape.size());
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    dims.d[axis] = static_cast<std::decay_t<decltype(dims.d[0])>>(shape[axis]);
  }
  return dims;
}

Array converted(std::string const& name, Array const& array, Tensor const& tensor);
Array from_bfloat16(Array const& bits);
