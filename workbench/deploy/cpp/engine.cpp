#include "engine.hpp"

namespace {

// numpy's name of a type; u2 for the bits of bfloat16, '' for types that this program does not know.
std::string type_name(nvinfer1::DataType const type) {
  switch (type) {
    case nvinfer1::DataType::kFLOAT: return "f4";
    case nvinfer1::DataType::kHALF: return "f2";
    case nvinfer1::DataType::kINT8: return "i1";
    case nvinfer1::DataType::kUINT8: return "u1";
    case nvinfer1::DataType::kINT32: return "i4";
    case nvinfer1::DataType::kBOOL: return "b1";
#ifdef HAS_INTERFACE_10
    case nvinfer1::DataType::kINT64: return "i8";
    case nvinfer1::DataType::kBF16: return "u2";
#endif
    default: return "";
  }
}

int major(int32_t const version) { return version / (version < 10000 ? 1000 : 10000); }

bool is_open(int64_t const size) { return size < 0; }

bool is_whole(std::string const& type) { return type[0] == 'i' || type[0] == 'u'; }

template <typename T>
void narrow(std::string const& name, Array const& from, Array& to) {
  for (size_t index = 0; index < from.count(); ++index) {
    int64_t const value = npy::whole(from, index);
    T const narrowed = static_cast<T>(value);
    if (static_cast<int64_t>(narrowed) != value) {
      throw Failure("input " + name + " holds values beyond " + to.type + ", in which the engine computes.");
    }
    std::memcpy(to.bytes.data() + index * sizeof(T), &narrowed, sizeof(T));
  }
}

void to_float(Array const& from, Array& to) {
  for (size_t index = 0; index < from.count(); ++index) {
    float const value = static_cast<float>(npy::real(from, index));
    std::memcpy(to.bytes.data() + index * sizeof(float), &value, sizeof(float));
  }
}

Array to_bfloat16(Array const& array) {
  Array bits = npy::empty("u2", array.shape);
  for (size_t index = 0; index < array.count(); ++index) {
    uint32_t const value = npy::at<uint32_t>(array, index);
    bool const is_nan = std::isnan(npy::at<float>(array, index));
    uint16_t const rounded = is_nan ? 0x7fc0 : static_cast<uint16_t>((value + 0x7fffU + (value >> 16U & 1U)) >> 16U);
    std::memcpy(bits.bytes.data() + index * sizeof(rounded), &rounded, sizeof(rounded));
  }
  return bits;
}

}  // namespace

Array from_bfloat16(Array const& bits) {
  Array array = npy::empty("f4", bits.shape);
  for (size_t index = 0; index < bits.count(); ++index) {
    uint32_t const value = static_cast<uint32_t>(npy::at<uint16_t>(bits, index)) << 16U;
    std::memcpy(array.bytes.data() + index * sizeof(value), &value, sizeof(value));
  }
  return array;
}

// In the engine's type; only what loses nothing is converted, and f8 to f4.
Array converted(std::string const& name, Array const& array, Tensor const& tensor) {
  if (tensor.is_bfloat16) return to_bfloat16(converted(name, array, Tensor{"f4", false, true, false}));
  if (array.type == tensor.type) return array;
  Array result = npy::empty(tensor.type, array.shape);
  if (array.type == "f8" && tensor.type == "f4") {
    to_float(array, result);
  } else if (is_whole(array.type) && tensor.type == "i4") {
    narrow<int32_t>(name, array, result);
  } else if (is_whole(array.type) && tensor.type == "i8") {
    narrow<int64_t>(name, array, result);
  } else {
    throw Failure("input " + name + " is of the type " + array.type + "; the engine takes " + tensor.type + ".");
  }
  return result;
}

Engine::Engine(std::filesystem::path const& plan, bool const host_code, int const device)
    : stream_(device) {
  if (major(getInferLibVersion()) != major(NV_TENSORRT_VERSION)) {
    throw Failure("the library is of another release than the headers that this program was compiled with.");
  }
#ifdef WITH_PLUGINS
  logger_.require(initLibNvInferPlugins(&logger_, ""), "TensorRT's plugins cannot be loaded");
#endif
  runtime_.reset(nvinfer1::createInferRuntime(logger_));
  logger_.require(runtime_ != nullptr, "TensorRT cannot be started");
  if (host_code) runtime_->setEngineHostCodeAllowed(true);
  std::vector<char> const content = read(plan);
  engine_.reset(runtime_->deserializeCudaEngine(content.data(), content.size()));
  logger_.require(engine_ != nullptr, "TensorRT does not take " + plan.string());
  context_.reset(engine_->createExecutionContext());
  logger_.require(context_ != nullptr, "there is no context of the engine");
  for (int32_t index = 0; index < engine_->getNbIOTensors(); ++index) {
    char const* const name = engine_->getIOTensorName(index);
    order_.emplace_back(name);
    tensors_[name] = describe(name);
  }
}

std::vector<char> Engine::read(std::filesystem::path const& plan) {
  std::ifstream file(plan, std::ios::binary);
  std::vector<char> content((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file || content.empty()) throw Failure(plan.string() + ": cannot be read.");
  return content;
}

Tensor Engine::describe(char const* const name) const {
  nvinfer1::DataType const type = engine_->getTensorDataType(name);
  std::string const numpy_name = type_name(type);
  if (numpy_name.empty()) {
    throw Failure(std::string(name) + " has a type that this program does not know (" +
                  std::to_string(static_cast<int>(type)) + ").");
  }
  return {numpy_name, numpy_name == "u2", engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT,
          engine_->getTensorLocation(name) == nvinfer1::TensorLocation::kHOST};
}

std::vector<std::string> Engine::names(bool const inputs) const {
  std::vector<std::string> found;
  std::copy_if(order_.begin(), order_.end(), std::back_inserter(found),
               [&](std::string const& name) { return tensors_.at(name).is_input == inputs; });
  return found;
}

Arrays Engine::run(Arrays const& feeds) {
  for (auto const& [name, array] : feeds) {
    auto const found = tensors_.find(name);
    if (found == tensors_.end() || !found->second.is_input) throw Failure("the engine has no input " + name + ".");
  }
  for (std::string const& name : names(true)) {
    if (feeds.count(name) == 0) throw Failure("input " + name + " is missing.");
    host_[name] = converted(name, feeds.at(name), tensors_.at(name));
  }
  choose_profile();
  for (std::string const& name : names(true)) set_input(name, host_.at(name));
  char const* missing = nullptr;
  int32_t const open = context_->inferShapes(1, &missing);
  logger_.require(open == 0, missing == nullptr ? "the sizes do not fit each other"
                                                : std::string("the size of ") + missing + " is not known");
  for (std::string const& name : names(false)) set_output(name);
  enqueue();
  stream_.wait();  // now the sizes of all outputs are known
  Arrays results;
  for (std::string const& name : names(false)) results[name] = fetch(name);
  return results;
}

// The first optimization profile that takes the arrays; the current one before all others.
void Engine::choose_profile() {
  std::string const reason = misfit(profile_);
  if (reason.empty()) return;
  for (int profile = 0; profile < engine_->getNbOptimizationProfiles(); ++profile) {
    if (!misfit(profile).empty()) continue;
    logger_.require(context_->setOptimizationProfileAsync(profile, stream_.get()), "the profile cannot be used");
    stream_.wait();
    profile_ = profile;
    return;
  }
  throw Failure(reason);
}

// Why a profile does not take the arrays; '' where it does. Content of arrays is TensorRT's to check.
std::string Engine::misfit(int const profile) const {
  using Bound = nvinfer1::OptProfileSelector;
  for (std::string const& name : names(true)) {
    npy::Shape const& shape = host_.at(name).shape;
    npy::Shape const own = shape_of(engine_->getTensorShape(name.c_str()));
    if (own.size() != shape.size()) {
      return "input " + name + " has " + std::to_string(own.size()) + " dimensions; the array is " + npy::text(shape) +
             ".";
    }
    npy::Shape low = own, high = own;
    if (std::any_of(own.begin(), own.end(), is_open)) {
      low = shape_of(engine_->getProfileShape(name.c_str(), profile, Bound::kMIN));
      high = shape_of(engine_->getProfileShape(name.c_str(), profile, Bound::kMAX));
    }
    for (size_t axis = 0; axis < shape.size(); ++axis) {
      if (shape[axis] < low.at(axis) || shape[axis] > high.at(axis)) {
        return "input " + name + ", dimension " + std::to_string(axis) + ": " + std::to_string(shape[axis]) +
               " is outside of " + std::to_string(low[axis]) + " to " + std::to_string(high[axis]) +
               ", which the engine was built for.";
      }
    }
  }
  return "";
}

void Engine::set_input(std::string const& name, Array const& array) {
  logger_.require(context_->setInputShape(name.c_str(), dims_of(array.shape)),
                  "input " + name + " does not take the shape " + npy::text(array.shape));
  void* address = const_cast<char*>(array.bytes.data());  // the engine only reads it
  if (!tensors_.at(name).is_on_host) {
    address = memory_[name].hold(array.bytes.size());
    check(cudaMemcpyAsync(address, array.bytes.data(), array.bytes.size(), cudaMemcpyHostToDevice, stream_.get()),
          "copy input " + name);
  }
  logger_.require(context_->setTensorAddress(name.c_str(), address), "input " + name + " cannot be read");
}

void Engine::set_output(std::string const& name) {
  npy::Shape const shape = shape_of(context_->getTensorShape(name.c_str()));
  Tensor const& tensor = tensors_.at(name);
  if (std::any_of(shape.begin(), shape.end(), is_open)) {
    Allocator& allocator = allocators_.try_emplace(name, memory_[name]).first->second;
    logger_.require(context_->setOutputAllocator(name.c_str(), &allocator), "output " + name + " gets no memory");
    return;
  }
  Array& array = host_[name] = npy::empty(tensor.type, shape);
  void* const address = tensor.is_on_host ? array.bytes.data() : memory_[name].hold(array.bytes.size());
  logger_.require(context_->setTensorAddress(name.c_str(), address), "output " + name + " cannot be written");
}

Array Engine::fetch(std::string const& name) {
  Tensor const& tensor = tensors_.at(name);
  auto const allocator = allocators_.find(name);
  if (allocator != allocators_.end()) host_[name] = npy::empty(tensor.type, allocator->second.shape);
  Array& array = host_.at(name);
  if (!tensor.is_on_host && !array.bytes.empty()) {
    check(cudaMemcpyAsync(array.bytes.data(), memory_[name].get(), array.bytes.size(), cudaMemcpyDeviceToHost,
                          stream_.get()),
          "copy output " + name);
    stream_.wait();
  }
  return tensor.is_bfloat16 ? from_bfloat16(array) : array;
}

void Engine::enqueue() { logger_.require(context_->enqueueV3(stream_.get()), "the engine does not run on these arrays"); }

std::vector<double> Engine::times_ms(int const count) {
  std::vector<std::pair<Event, Event>> events(static_cast<size_t>(count));
  for (auto const& [start, end] : events) {
    start.record(stream_);
    enqueue();
    end.record(stream_);
  }
  stream_.wait();
  std::vector<double> times;
  for (auto const& [start, end] : events) times.push_back(end.ms_since(start));
  return times;
}
