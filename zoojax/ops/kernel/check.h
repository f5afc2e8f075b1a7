// Checks operands and results of a call.
#pragma once

#include <algorithm>
#include <string>

#include "stages.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// Checks operands and results, and stores the first error.
class Check {
 public:
  Check(ffi::RemainingArgs& args, ffi::RemainingRets& rets) : args_(args), rets_(rets) {}

  using Shape = std::initializer_list<int64_t>;

  void counts(size_t args, size_t rets) {
    require(args_.size() == args && rets_.size() == rets, "number of operands or results");
  }
  void operand(int i, ffi::DataType type, Shape shape) {
    if (ok()) compare(*args_.get<ffi::AnyBuffer>(i), type, shape, "operand ", i);
  }
  void result(int i, ffi::DataType type, Shape shape) {
    if (ok()) compare(**rets_.get<ffi::AnyBuffer>(i), type, shape, "result ", i);
  }
  // A leaf of all members; only the product of the axes after the first is checked.
  void operand_leaf(int i, int64_t members, int leaf) {
    if (ok()) compare_leaf(*args_.get<ffi::AnyBuffer>(i), members, leaf, "operand ", i);
  }
  void result_leaf(int i, int64_t members, int leaf) {
    if (ok()) compare_leaf(**rets_.get<ffi::AnyBuffer>(i), members, leaf, "result ", i);
  }
  void below(int32_t number, int64_t end, const char* what) {
    if (ok() && (number < 0 || number >= end))
      error_ = std::string("zoojax: ") + what + " " + std::to_string(number) +
               " is not in [0, " + std::to_string(end) + ")";
  }
  void require(bool right, const std::string& what) {
    if (ok() && !right) error_ = "zoojax: " + what + " is wrong";
  }
  bool ok() const { return error_.empty(); }
  ffi::Error error() const { return ffi::Error::InvalidArgument(error_); }

 private:
  void compare(const ffi::AnyBuffer& buffer, ffi::DataType type, Shape shape, const char* what,
               int i) {
    const auto found = buffer.dimensions();
    require(buffer.element_type() == type && found.size() == shape.size() &&
                std::equal(shape.begin(), shape.end(), found.begin()),
            what + std::to_string(i));
  }
  void compare_leaf(const ffi::AnyBuffer& buffer, int64_t members, int leaf, const char* what,
                    int i) {
    const auto found = buffer.dimensions();
    require(buffer.element_type() == ffi::F32 && found.size() > 0 && found[0] == members &&
                int64_t(buffer.element_count()) == members * leaf_size(leaf),
            what + std::to_string(i));
  }

  ffi::RemainingArgs& args_;
  ffi::RemainingRets& rets_;
  std::string error_;
};

template <class T>
const T* operand(const ffi::RemainingArgs& args, int i) {
  return args.get<ffi::AnyBuffer>(i)->typed_data<T>();
}
template <class T>
T* result(ffi::RemainingRets& rets, int i) {
  return (*rets.get<ffi::AnyBuffer>(i))->typed_data<T>();
}

// Size of an axis of an operand; -1 if it has no such axis.
inline int64_t axis_size(const ffi::RemainingArgs& args, int i, size_t axis) {
  if (args.size() <= size_t(i)) return -1;
  const auto found = args.get<ffi::AnyBuffer>(i)->dimensions();
  return axis < found.size() ? found[axis] : -1;
}

}  // namespace
