// TensorRT's runtime and CUDA's, as far as the C++ runner uses them. Streams do nothing until they are waited for, and
// new memory on the "GPU" is filled with 0xFF, so that whoever reads too early gets NaN.
//
// A plan is text:
//   fake 8                                   the release it was built with: 8 or 10
//   host_code                                it is version-compatible
//   input NAME TYPE SHAPE [MIN MAX]...       a pair for each optimization profile; sizes joined by x, -1 is open
//   scale NAME TYPE SHAPE INPUT FACTOR       an output: FACTOR times the input
//   positive NAME TYPE INPUT                 an output: the input's values above 0, so that only a run tells its size
//   shape NAME TYPE INPUT                    an output on the host: the input's sizes
//   repeat NAME TYPE INPUT COUNT             an output: the input, as often as COUNT, an input on the host, says
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "NvInferRuntime.h"

using namespace nvinfer1;

// ---- CUDA

struct CUstream_st {
  std::vector<std::function<void()>> waiting;
};
struct CUevent_st {
  std::chrono::steady_clock::time_point time;
};

namespace {
std::set<void const*> on_gpu;
}

extern "C" {
char const* cudaGetErrorString(cudaError_t error) { return error == cudaErrorInvalidDevice ? "invalid device ordinal" : "invalid argument"; }

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }

cudaError_t cudaMalloc(void** address, size_t size) {
  *address = ::operator new(size);
  std::memset(*address, 0xff, size);
  on_gpu.insert(*address);
  return cudaSuccess;
}

cudaError_t cudaFree(void* address) {
  if (address != nullptr && on_gpu.erase(address) == 0) return cudaErrorInvalidValue;
  ::operator delete(address);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, void const* from, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
  if (on_gpu.count(kind == cudaMemcpyHostToDevice ? to : from) == 0) return cudaErrorInvalidValue;
  stream->waiting.emplace_back([=] { std::memcpy(to, from, size); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) {
  *stream = new CUstream_st;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  std::vector<std::function<void()>> work;
  work.swap(stream->waiting);
  for (auto const& step : work) step();
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  stream->waiting.emplace_back([=] { event->time = std::chrono::steady_clock::now(); });
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
  *ms = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
}

// ---- TensorRT

namespace {

using Sizes = std::vector<int64_t>;

struct Tensor {
  std::string kind, name, type, source, count;
  Sizes shape;
  double factor = 1.0;
  std::vector<std::pair<Sizes, Sizes>> profiles;
  bool is_input() const { return kind == "input"; }
};

Sizes sizes(std::string const& text) {
  Sizes found;
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, 'x');) found.push_back(std::stoll(word));
  return found;
}

Dims dims(Sizes const& shape) {
  Dims found{};
  found.nbDims = static_cast<int32_t>(shape.size());
  for (size_t axis = 0; axis < shape.size(); ++axis) found.d[axis] = static_cast<decltype(found.d[0] + 0)>(shape[axis]);
  return found;
}

size_t product(Sizes const& shape) {
  size_t count = 1;
  for (int64_t size : shape) count *= static_cast<size_t>(size);
  return count;
}

DataType type_of(std::string const& name) {
  static std::map<std::string, DataType> const types = {
      {"f4", DataType::kFLOAT}, {"f2", DataType::kHALF}, {"i1", DataType::kINT8}, {"i4", DataType::kINT32},
      {"b1", DataType::kBOOL},  {"u1", DataType::kUINT8}, {"fp8", DataType::kFP8},
#if FAKE_MAJOR >= 10
      {"bf16", DataType::kBF16}, {"i8", DataType::kINT64},
#endif
  };
  return types.at(name);
}

template <typename T>
T& item(void* memory, size_t index) {
  return static_cast<T*>(memory)[index];
}

double get(std::string const& type, void* memory, size_t index) {
  if (type == "f4") return item<float>(memory, index);
  if (type == "i4") return item<int32_t>(memory, index);
  if (type == "i8") return static_cast<double>(item<int64_t>(memory, index));
  if (type == "bf16") {
    uint32_t const bits = static_cast<uint32_t>(item<uint16_t>(memory, index)) << 16U;
    float value = 0;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
  return item<uint8_t>(memory, index);
}

void put(std::string const& type, void* memory, size_t index, double value) {
  if (type == "f4") item<float>(memory, index) = static_cast<float>(value);
  else if (type == "i4") item<int32_t>(memory, index) = static_cast<int32_t>(value);
  else if (type == "i8") item<int64_t>(memory, index) = static_cast<int64_t>(value);
  else if (type == "bf16") {
    float const whole = static_cast<float>(value);
    uint32_t bits = 0;
    std::memcpy(&bits, &whole, sizeof(bits));
    item<uint16_t>(memory, index) = static_cast<uint16_t>(bits >> 16U);
  } else item<uint8_t>(memory, index) = static_cast<uint8_t>(value);
}

size_t bytes(std::string const& type) { return type == "f4" || type == "i4" ? 4 : type == "i8" ? 8 : type == "bf16" ? 2 : 1; }

class Context : public IExecutionContext {
 public:
  Context(std::map<std::string, Tensor> const& tensors, ILogger& logger) : tensors_(tensors), logger_(logger) {}

  bool setOptimizationProfileAsync(int32_t profile, cudaStream_t) noexcept override {
    profile_ = static_cast<size_t>(profile);
    return true;
  }

  bool setInputShape(char const* name, Dims const& wanted) noexcept override {
    Tensor const& tensor = tensors_.at(name);
    Sizes const shape(wanted.d, wanted.d + wanted.nbDims);
    for (size_t axis = 0; !tensor.profiles.empty() && axis < shape.size(); ++axis) {
      auto const& [low, high] = tensor.profiles[profile_];
      if (shape[axis] < low[axis] || shape[axis] > high[axis]) return complain("the shape is not in the profile");
    }
    shapes_[name] = shape;
    return true;
  }

  Dims getTensorShape(char const* name) const noexcept override {
    Tensor const& tensor = tensors_.at(name);
    if (tensor.kind == "positive") return dims({-1});
    return dims(shape_of(tensor));
  }

  bool setTensorAddress(char const* name, void* data) noexcept override {
    addresses_[name] = data;
    return data != nullptr;
  }

  int32_t inferShapes(int32_t, char const** names) noexcept override {
    for (auto const& [name, tensor] : tensors_) {
      if (tensor.is_input() && shapes_.count(name) == 0) {
        *names = name.c_str();
        return 1;
      }
    }
    return 0;
  }

  bool setOutputAllocator(char const* name, IOutputAllocator* allocator) noexcept override {
    allocators_[name] = allocator;
    return true;
  }

  bool enqueueV3(cudaStream_t stream) noexcept override {
    for (auto const& [name, tensor] : tensors_) {
      if (tensor.kind == "positive") cudaStreamSynchronize(stream);  // its size depends on the input's content
      bool const is_on_host = tensor.kind == "shape";
      if (tensor.kind != "positive" && (on_gpu.count(addresses_[name]) == 0) != (is_on_host || is_count(name))) {
        return complain("an address is not where the engine needs it");
      }
    }
    for (auto const& [name, tensor] : tensors_) {
      if (tensor.kind == "positive") select(tensor);
      else if (!tensor.is_input()) stream->waiting.emplace_back([this, &tensor = tensor] { compute(tensor); });
    }
    return true;
  }

 private:
  bool is_count(std::string const& name) const {
    for (auto const& entry : tensors_) {
      if (entry.second.count == name) return true;
    }
    return false;
  }

  bool complain(char const* text) noexcept {
    logger_.log(ILogger::Severity::kERROR, text);
    return false;
  }

  Sizes shape_of(Tensor const& tensor) const {
    if (tensor.is_input()) return shapes_.at(tensor.name);
    Sizes shape = shapes_.at(tensor.source);
    if (tensor.kind == "shape") return {static_cast<int64_t>(shape.size())};
    if (tensor.kind == "repeat") shape[0] *= static_cast<int64_t>(get("i4", addresses_.at(tensor.count), 0));
    return shape;
  }

  void compute(Tensor const& tensor) {
    Tensor const& source = tensors_.at(tensor.source);
    size_t const count = product(shapes_.at(source.name));
    for (size_t index = 0; index < product(shape_of(tensor)); ++index) {
      double const value = tensor.kind == "shape" ? static_cast<double>(shapes_.at(source.name)[index])
                                                  : tensor.factor * get(source.type, addresses_.at(source.name), index % count);
      put(tensor.type, addresses_.at(tensor.name), index, value);
    }
  }

  void select(Tensor const& tensor) {
    Tensor const& source = tensors_.at(tensor.source);
    std::vector<double> found;
    for (size_t index = 0; index < product(shapes_.at(source.name)); ++index) {
      double const value = get(source.type, addresses_.at(source.name), index);
      if (value > 0) found.push_back(value);
    }
    IOutputAllocator* const allocator = allocators_.at(tensor.name);
    size_t const size = std::max<size_t>(1, found.size() * bytes(tensor.type));
#if FAKE_MAJOR >= 10
    void* const memory = allocator->reallocateOutputAsync(tensor.name.c_str(), nullptr, size, 256, nullptr);
#else
    void* const memory = allocator->reallocateOutput(tensor.name.c_str(), nullptr, size, 256);
#endif
    for (size_t index = 0; index < found.size(); ++index) put(tensor.type, memory, index, found[index]);
    allocator->notifyShape(tensor.name.c_str(), dims({static_cast<int64_t>(found.size())}));
  }

  std::map<std::string, Tensor> const& tensors_;
  ILogger& logger_;
  size_t profile_ = 0;
  std::map<std::string, Sizes> shapes_;
  std::map<std::string, void*> addresses_;
  std::map<std::string, IOutputAllocator*> allocators_;
};

class Engine : public ICudaEngine {
 public:
  Engine(std::istream& lines, ILogger& logger) : logger_(logger) {
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      Tensor tensor;
      words >> tensor.kind >> tensor.name >> tensor.type;
      std::string shape, low, high;
      if (tensor.is_input() || tensor.kind == "scale") words >> shape;
      tensor.shape = sizes(shape);
      if (tensor.is_input()) while (words >> low >> high) tensor.profiles.emplace_back(sizes(low), sizes(high));
      else words >> tensor.source;
      if (tensor.kind == "scale") words >> tensor.factor;
      if (tensor.kind == "repeat") words >> tensor.count;
      names_.push_back(tensor.name);
      tensors_[tensor.name] = tensor;
    }
  }

  IExecutionContext* createExecutionContext() noexcept override { return new Context(tensors_, logger_); }
  int32_t getNbOptimizationProfiles() const noexcept override {
    size_t count = 1;
    for (auto const& entry : tensors_) count = std::max(count, entry.second.profiles.size());
    return static_cast<int32_t>(count);
  }
  Dims getTensorShape(char const* name) const noexcept override { return dims(tensors_.at(name).shape); }
  DataType getTensorDataType(char const* name) const noexcept override { return type_of(tensors_.at(name).type); }
  TensorLocation getTensorLocation(char const* name) const noexcept override {
    bool is_on_host = tensors_.at(name).kind == "shape";
    for (auto const& entry : tensors_) is_on_host = is_on_host || entry.second.count == name;
    return is_on_host ? TensorLocation::kHOST : TensorLocation::kDEVICE;
  }
  TensorIOMode getTensorIOMode(char const* name) const noexcept override {
    return tensors_.at(name).is_input() ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
  }
  Dims getProfileShape(char const* name, int32_t profile, OptProfileSelector select) const noexcept override {
    Tensor const& tensor = tensors_.at(name);
    if (tensor.profiles.empty()) return dims(tensor.shape);
    auto const& bounds = tensor.profiles[static_cast<size_t>(profile)];
    return dims(select == OptProfileSelector::kMIN ? bounds.first : bounds.second);
  }
  int32_t getNbIOTensors() const noexcept override { return static_cast<int32_t>(names_.size()); }
  char const* getIOTensorName(int32_t index) const noexcept override { return names_[static_cast<size_t>(index)].c_str(); }

 private:
  ILogger& logger_;
  std::vector<std::string> names_;
  std::map<std::string, Tensor> tensors_;
};

class Runtime : public IRuntime {
 public:
  explicit Runtime(ILogger& logger) : logger_(logger) {}

  ICudaEngine* deserializeCudaEngine(void const* content, size_t size) noexcept override {
    std::istringstream lines(std::string(static_cast<char const*>(content), size));
    std::string line;
    std::getline(lines, line);
    if (line != "fake " + std::to_string(FAKE_MAJOR)) return refuse("the plan was built with another release");
    if (lines.peek() == 'h') {
      std::getline(lines, line);
      if (!host_code_) return refuse("host code is not allowed");
    }
    return new Engine(lines, logger_);
  }

  void setEngineHostCodeAllowed(bool allowed) noexcept override { host_code_ = allowed; }

 private:
  ICudaEngine* refuse(char const* text) noexcept {
    logger_.log(ILogger::Severity::kERROR, text);
    return nullptr;
  }

  ILogger& logger_;
  bool host_code_ = false;
};

}  // namespace

extern "C" int32_t getInferLibVersion() noexcept { return NV_TENSORRT_VERSION; }
extern "C" void* createInferRuntime_INTERNAL(void* logger, int32_t version) noexcept {
  return version == NV_TENSORRT_VERSION ? static_cast<IRuntime*>(new Runtime(*static_cast<ILogger*>(logger))) : nullptr;
}
