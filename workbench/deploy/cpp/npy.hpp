// Arrays as numpy writes them to .npy files: little-endian, row by row.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace npy {

using Shape = std::vector<int64_t>;

// What goes wrong is told in a sentence.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// type: numpy's, without byte order: f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1.
struct Array {
  std::string type;
  Shape shape;
  std::vector<char> bytes;

  size_t item_size() const { return static_cast<size_t>(type[1] - '0'); }
  size_t count() const { return bytes.size() / item_size(); }
};

inline size_t product(Shape const& shape) {
  size_t count = 1;
  for (int64_t const size : shape) count *= static_cast<size_t>(size);
  return count;
}

inline Array empty(std::string const& type, Shape const& shape) {
  Array array{type, shape, {}};
  array.bytes.resize(product(shape) * array.item_size());
  return array;
}

inline std::string text(Shape const& shape) {
  std::ostringstream out;
  for (size_t axis = 0; axis < shape.size(); ++axis) out << (axis ? "x" : "") << shape[axis];
  return shape.empty() ? "scalar" : out.str();
}

inline float half_to_float(uint16_t const bits) {
  int const exponent = bits >> 10 & 0x1f;
  float const fraction = static_cast<float>(bits & 0x3ff) / 1024.0F;
  float value = 0.0F;
  if (exponent == 31) {
    value = (bits & 0x3ff) != 0 ? std::nanf("") : INFINITY;
  } else {
    value = exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1.0F + fraction, exponent - 15);
  }
  return (bits & 0x8000) != 0 ? -value : value;
}

template <typename T>
T at(Array const& array, size_t const index) {
  T value;
  std::memcpy(&value, array.bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

inline bool is_float(std::string const& type) { return type[0] == 'f'; }

inline double real(Array const& array, size_t const index) {
  if (array.type == "f2") return half_to_float(at<uint16_t>(array, index));
  if (array.type == "f4") return at<float>(array, index);
  return at<double>(array, index);
}

// Integers and booleans; values of u8 beyond those of i8 do not occur in engines.
inline int64_t whole(Array const& array, size_t const index) {
  bool const is_signed = array.type[0] == 'i';
  switch (array.item_size()) {
    case 1: return is_signed ? at<int8_t>(array, index) : at<uint8_t>(array, index);
    case 2: return is_signed ? at<int16_t>(array, index) : at<uint16_t>(array, index);
    case 4: return is_signed ? at<int32_t>(array, index) : static_cast<int64_t>(at<uint32_t>(array, index));
    default: return at<int64_t>(array, index);
  }
}

// ---- files

inline std::string after(std::string const& header, std::string const& key, std::filesystem::path const& path) {
  size_t const found = header.find("'" + key + "':");
  if (found == std::string::npos) throw Failure(path.string() + ": its header does not tell its " + key + ".");
  return header.substr(header.find_first_not_of(' ', found + key.size() + 3));
}

inline Shape read_shape(std::string const& words, std::filesystem::path const& path) {
  size_t const end = words.find(')');
  if (words.empty() || words[0] != '(' || end == std::string::npos) {
    throw Failure(path.string() + ": its header does not tell its shape.");
  }
  Shape shape;
  std::istringstream sizes(words.substr(1, end - 1));
  for (std::string size; std::getline(sizes, size, ',');) {
    if (size.find_first_of("0123456789") != std::string::npos) shape.push_back(std::stoll(size));
  }
  return shape;
}

inline std::string read_type(std::string const& words, std::filesystem::path const& path) {
  static std::string const known = "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1";
  std::string const type = words.size() > 4 ? words.substr(1, 3) : "";
  bool const is_little = !type.empty() && (type[0] == '<' || type[0] == '|');
  if (!is_little || known.find(type.substr(1)) == std::string::npos) {
    throw Failure(path.string() + ": arrays of the type " + type + " cannot be read; save it in another.");
  }
  return type.substr(1);
}

inline Array load(std::filesystem::path const& path) {
  std::ifstream file(path, std::ios::binary);
  char magic[8];
  if (!file.read(magic, sizeof(magic)) || std::memcmp(magic, "\x93NUMPY", 6) != 0) {
    throw Failure(path.string() + ": cannot be read as a .npy file.");
  }
  unsigned char lengths[4] = {0, 0, 0, 0};
  file.read(reinterpret_cast<char*>(lengths), magic[6] == 1 ? 2 : 4);
  std::string header(lengths[0] | lengths[1] << 8U | lengths[2] << 16U, '\0');
  file.read(header.data(), static_cast<std::streamsize>(header.size()));
  if (!file || after(header, "fortran_order", path).rfind("False", 0) != 0) {
    throw Failure(path.string() + ": not stored row by row; save it with numpy.ascontiguousarray.");
  }
  Array array = empty(read_type(after(header, "descr", path), path), read_shape(after(header, "shape", path), path));
  if (!file.read(array.bytes.data(), static_cast<std::streamsize>(array.bytes.size()))) {
    throw Failure(path.string() + ": cut off; copy it again.");
  }
  return array;
}

inline void save(std::filesystem::path const& path, Array const& array) {
  std::ostringstream words;
  words << "{'descr': '" << (array.item_size() == 1 ? "|" : "<") << array.type << "', 'fortran_order': False, 'shape': (";
  for (int64_t const size : array.shape) words << size << ", ";
  words << "), }";
  std::string header = words.str();
  header.resize((header.size() + 11 + 63) / 64 * 64 - 11, ' ');  // with 10 bytes before it and the end of the line
  header += '\n';
  std::ofstream file(path, std::ios::binary);
  file.write("\x93NUMPY\x01\x00", 8);
  file.put(static_cast<char>(header.size() & 0xffU)).put(static_cast<char>(header.size() >> 8U));
  file << header;
  file.write(array.bytes.data(), static_cast<std::streamsize>(array.bytes.size()));
  if (!file.flush()) throw Failure(path.string() + ": cannot be written.");
}

// ---- a folder of files, one for each tensor

// Letters, digits, '.', '-' and '_' stay; names that become equal are numbered.
inline std::map<std::string, std::string> file_names(std::vector<std::string> const& tensors) {
  std::map<std::string, std::string> names;
  std::map<std::string, int> taken;
  for (std::string const& tensor : tensors) {
    std::string name = tensor;
    for (char& letter : name) {
      bool const stays = std::isalnum(static_cast<unsigned char>(letter)) != 0 || std::strchr(".-_", letter) != nullptr;
      if (!stays) letter = '_';
    }
    int const number = ++taken[name];
    names[tensor] = name + (number > 1 ? "." + std::to_string(number) : "") + ".npy";
  }
  return names;
}

}  // namespace npy
