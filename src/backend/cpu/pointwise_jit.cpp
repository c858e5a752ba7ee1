// Registers are given out while instructions are emitted, in program order. Who gives way is the value whose next use
// is farthest (Belady 1966), which costs the fewest stores and loads in code without branches.
#include "backend/cpu/pointwise_jit.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <system_error>
#include <vector>

#define XBYAK_NO_OP_NAMES  // `and` and `or` are words of C++
#include <xbyak/xbyak.h>

#include "backend/cpu/pointwise_trace.hpp"
#include "backend/cpu/tier.hpp"
#include "base/env.hpp"
#include "base/error.hpp"
#include "base/log.hpp"
#include "ops/pointwise.hpp"

namespace tenfold::cpu {
namespace {

constexpr int kNone = -1;
constexpr std::size_t kSlotBytes = 64;
/// More values in memory than this, and the interpreter is as good.
constexpr int kMaxSlots = 64;

class PointwiseAssembler : public Xbyak::CodeGenerator {
 public:
  /// `frame_slots`: vectors of stack; slots_needed() of an assembler for the same program.
  PointwiseAssembler(const VectorProgram& program, bool is_avx512, int frame_slots, void* buffer, std::size_t bytes)
      : CodeGenerator(bytes, buffer),
        program_(program),
        avx512_(is_avx512),
        vector_bytes_(is_avx512 ? 64 : 32),
        frame_slots_(frame_slots),
        uses_(program.size()),
        places_(program.size()),
        pinned_(program.size(), kNone),
        labels_(program.size()) {
    for (int i = 0; i < size(); ++i) {
      for (const int operand : operands_of(i)) {
        if (operand != kNone && (uses_[index(operand)].empty() || uses_[index(operand)].back() != i))
          uses_[index(operand)].push_back(i);
      }
    }
    uses_.back().push_back(size());  // it is stored
    pin_constants();
    emit_function();
  }
  int slots_needed() const { return slots_needed_; }

 private:
  using Xmm = Xbyak::Xmm;

  /// Where a value is: in a register, in a slot of the stack, in both, or in neither (not computed, or not needed any
  /// more; a constant or an input that waits to be loaded).
  struct Place {
    int reg = kNone, slot = kNone;
  };
  struct RegisterFile {
    std::array<int, 32> owner{};  ///< kFree, kReserved or a value
    int first = 0, end = 0;       ///< registers that are given out
    std::uint32_t locked = 0;     ///< operands of the current instruction
  };
  static constexpr int kFree = -1, kReserved = -2;
  /// An operand that may lie in memory. The register stays right when the value gives it up.
  struct Source {
    int value, reg, slot;
  };

  static std::size_t index(int i) { return static_cast<std::size_t>(i); }
  static std::uint32_t bit(int reg) { return std::uint32_t{1} << static_cast<unsigned>(reg); }
  int size() const { return static_cast<int>(program_.size()); }
  std::array<int, 3> operands_of(int i) const {
    const VectorInstruction& instruction = program_[index(i)];
    return {instruction.a, instruction.b, instruction.c};
  }
  bool is_constant(int value) const { return is_constant(program_[index(value)].op); }
  static bool is_constant(VectorOp op) { return op == VectorOp::constant || op == VectorOp::table; }
  bool is_mask(int value) const {
    switch (program_[index(value)].op) {
      case VectorOp::less:
      case VectorOp::equal:
      case VectorOp::unordered:
      case VectorOp::nonzero:
      case VectorOp::mask_and:
      case VectorOp::mask_or:
        return avx512_;
      default:
        return false;
    }
  }
  RegisterFile& file_of(int value) { return is_mask(value) ? masks_ : vectors_; }
  Xmm vec(int reg) const { return avx512_ ? Xmm(Xbyak::Zmm(reg)) : Xmm(Xbyak::Ymm(reg)); }
  static Xbyak::Opmask mask(int reg) { return Xbyak::Opmask(reg); }
  Xmm tail_vector() const { return vec(15); }                    // AVX2: lanes behind the whole vectors
  static Xbyak::Opmask tail_mask() { return Xbyak::Opmask(7); }  // AVX-512: the same
  int vector_registers() const { return avx512_ ? 32 : 15; }

  const Xbyak::Reg64& pointer(int input) const {
    const std::array<const Xbyak::Reg64*, NativePointwiseArgs::kMaxInputs> all = {&rsi, &rdx, &rcx, &r8,
                                                                                  &r9,  &r10, &r11, &r12};
    return *all[index(input)];
  }
  template <typename Member>
  Xbyak::Address argument(Member NativePointwiseArgs::*member, std::ptrdiff_t i = 0) const {
    const NativePointwiseArgs sample{};
    const auto* at = reinterpret_cast<const std::byte*>(&(sample.*member));
    const std::ptrdiff_t offset = at - reinterpret_cast<const std::byte*>(&sample);
    return ptr[rdi + static_cast<std::size_t>(offset + 8 * i)];
  }

  /// Constants that are used most stay in the registers that are left when everything else has one.
  void pin_constants() {
    std::vector<int> begins(program_.size() + 2), constants;
    for (int i = 0; i < size(); ++i) {
      if (is_constant(i)) constants.push_back(i);
      if (is_constant(i) || is_mask(i)) continue;
      const int first = program_[index(i)].op == VectorOp::input ? uses_[index(i)].front() : i;
      ++begins[index(first)];
      --begins[index(uses_[index(i)].back())];
    }
    int live = 0, most = 0;
    for (const int change : begins) most = std::max(most, live += change);
    // Two more for an operand on its way to the instruction and for a result beside all of its operands.
    const int left = std::clamp(vector_registers() - most - 2, 0, static_cast<int>(constants.size()));
    std::stable_sort(constants.begin(), constants.end(),
                     [&](int x, int y) { return uses_[index(x)].size() > uses_[index(y)].size(); });
    vectors_.first = left;
    for (int i = 0; i < left; ++i) pinned_[index(constants[index(i)])] = i;
  }

  // Registers.

  int next_use(int value) const {
    const std::vector<int>& uses = uses_[index(value)];
    const auto next = std::upper_bound(uses.begin(), uses.end(), position_);
    return next == uses.end() ? kNone : *next;
  }
  /// A register of the file that nothing is in. It is locked.
  int take(RegisterFile& file) {
    int found = kNone, farthest = kNone;
    for (int r = file.first; r < file.end; ++r) {
      const int owner = file.owner[index(r)];
      if (owner == kFree) {
        found = r;
        break;
      }
      if (owner == kReserved || (file.locked & bit(r)) != 0) continue;
      // A constant costs nothing to give up.
      const int next = is_constant(owner) ? size() + 1 : next_use(owner);
      if (next > farthest) {
        farthest = next;
        found = r;
      }
    }
    if (found == kNone) throw Error(Code::internal, "a pointwise program ran out of registers");
    if (file.owner[index(found)] != kFree) evict(file, found);
    file.owner[index(found)] = kReserved;
    file.locked |= bit(found);
    return found;
  }
  void evict(RegisterFile& file, int reg) {
    const int value = file.owner[index(reg)];
    Place& place = places_[index(value)];
    if (!is_constant(value) && place.slot == kNone) {
      place.slot = take_slot();
      if (is_mask(value)) {
        kmovw(slot_address(place.slot), mask(reg));
      } else {
        vmovups(slot_address(place.slot), vec(reg));
      }
    }
    place.reg = kNone;
    file.owner[index(reg)] = kFree;
  }
  int take_slot() {
    const auto free = std::find(slot_is_taken_.begin(), slot_is_taken_.end(), false);
    const auto slot = static_cast<int>(free - slot_is_taken_.begin());
    if (free == slot_is_taken_.end()) {
      slot_is_taken_.push_back(true);
    } else {
      *free = true;
    }
    slots_needed_ = std::max(slots_needed_, slot + 1);
    return slot;
  }
  Xbyak::Address slot_address(int slot) const { return ptr[rsp + index(slot) * kSlotBytes]; }

  int register_of(int value) {
    const int r = pinned_[index(value)];
    return r != kNone ? r : places_[index(value)].reg;
  }
  /// Not in a register, but an instruction can read it where it is.
  bool is_in_memory(int value) {
    return register_of(value) == kNone && (is_constant(value) || places_[index(value)].slot != kNone);
  }
  /// The register with the value, loaded if need be; locked.
  int load(int value) {
    if (pinned_[index(value)] != kNone) return pinned_[index(value)];
    RegisterFile& file = file_of(value);
    const Place place = places_[index(value)];
    int reg = place.reg;
    if (reg == kNone) {
      reg = take(file);
      if (place.slot != kNone && is_mask(value)) {
        kmovw(mask(reg), slot_address(place.slot));
      } else if (place.slot != kNone) {
        vmovups(vec(reg), slot_address(place.slot));
      } else if (is_constant(value)) {
        vmovups(vec(reg), ptr[rip + labels_[index(value)]]);
      } else {
        load_input(value, reg);
      }
      assign(value, reg);
    }
    file.locked |= bit(reg);
    return reg;
  }
  void load_input(int value, int reg) {
    const Xbyak::Reg64& from = pointer(static_cast<int>(program_[index(value)].bits));
    if (!in_tail_) {
      vmovups(vec(reg), ptr[from]);
    } else if (avx512_) {
      vmovups(vec(reg) | tail_mask() | T_z, ptr[from]);
    } else {
      vmaskmovps(vec(reg), tail_vector(), ptr[from]);
    }
  }
  void assign(int value, int reg) {
    file_of(value).owner[index(reg)] = value;
    places_[index(value)].reg = reg;
  }
  Source source(int value) {
    if (is_in_memory(value)) return {value, kNone, places_[index(value)].slot};
    return {value, load(value), kNone};
  }
  template <typename Emit>
  void with(const Source& source, Emit emit) {
    if (source.reg != kNone) {
      emit(vec(source.reg));
    } else if (source.slot != kNone) {
      emit(slot_address(source.slot));
    } else {
      emit(ptr[rip + labels_[index(source.value)]]);
    }
  }
  /// Operands that are read here for the last time give up their registers; their slots only after the instruction,
  /// which may still read them.
  void release_operands() {
    for (const int value : operands_of(position_)) {
      if (value == kNone || next_use(value) != kNone) continue;
      Place& place = places_[index(value)];
      if (place.reg != kNone) {
        RegisterFile& file = file_of(value);
        file.owner[index(place.reg)] = kFree;
        file.locked &= ~bit(place.reg);
      }
      place.reg = kNone;
    }
  }
  void release_slots() {
    for (const int value : operands_of(position_)) {
      if (value == kNone || next_use(value) != kNone || places_[index(value)].slot == kNone) continue;
      slot_is_taken_[index(places_[index(value)].slot)] = false;
      places_[index(value)].slot = kNone;
    }
  }
  /// The result's register, which may be an operand's.
  int define() {
    release_operands();
    const int reg = take(file_of(position_));
    assign(position_, reg);
    return reg;
  }

  // Instructions.

  void emit_binary(int a, int b, bool commutes) {
    if (commutes && is_in_memory(a) && !is_in_memory(b)) std::swap(a, b);
    const int x = load(a);
    const Source y = source(b);
    const int d = define();
    with(y, [&](const Xbyak::Operand& operand) { emit_two(d, x, operand); });
  }
  void emit_two(int d, int x, const Xbyak::Operand& y) {
    switch (program_[index(position_)].op) {
      case VectorOp::add:
        return vaddps(vec(d), vec(x), y);
      case VectorOp::sub:
        return vsubps(vec(d), vec(x), y);
      case VectorOp::mul:
        return vmulps(vec(d), vec(x), y);
      case VectorOp::div:
        return vdivps(vec(d), vec(x), y);
      case VectorOp::max:
        return vmaxps(vec(d), vec(x), y);
      case VectorOp::min:
        return vminps(vec(d), vec(x), y);
      case VectorOp::bit_and:
        return avx512_ ? vpandd(vec(d), vec(x), y) : vandps(vec(d), vec(x), y);
      case VectorOp::bit_or:
        return avx512_ ? vpord(vec(d), vec(x), y) : vorps(vec(d), vec(x), y);
      case VectorOp::bit_xor:
        return avx512_ ? vpxord(vec(d), vec(x), y) : vxorps(vec(d), vec(x), y);
      case VectorOp::int_add:
        return vpaddd(vec(d), vec(x), y);
      case VectorOp::int_sub:
        return vpsubd(vec(d), vec(x), y);
      case VectorOp::int_equal:
        return vpcmpeqd(vec(d), vec(x), y);
      case VectorOp::less:
        return emit_compare(d, x, y, 17);  // LT_OQ
      case VectorOp::equal:
        return emit_compare(d, x, y, 0);  // EQ_OQ
      case VectorOp::unordered:
        return emit_compare(d, x, y, 3);  // UNORD_Q
      case VectorOp::lookup:
        return vpermps(Xbyak::Zmm(d), Xbyak::Zmm(x), y);
      default:
        ensure(false, "no vector instruction with two operands");
    }
  }
  void emit_compare(int d, int x, const Xbyak::Operand& y, std::uint8_t predicate) {
    if (avx512_) {
      vcmpps(mask(d), vec(x), y, predicate);
    } else {
      vcmpps(vec(d), vec(x), y, predicate);
    }
  }
  void emit_unary(int a) {
    const VectorInstruction& instruction = program_[index(position_)];
    const auto immediate = static_cast<std::uint8_t>(instruction.bits);
    const bool shifts = instruction.op == VectorOp::shift_left || instruction.op == VectorOp::shift_right;
    if (shifts) load(a);  // AVX2 shifts registers only
    const Source x = source(a);
    const int d = define();
    with(x, [&](const Xbyak::Operand& operand) {
      switch (instruction.op) {
        case VectorOp::sqrt:
          return vsqrtps(vec(d), operand);
        case VectorOp::round:
          return avx512_ ? vrndscaleps(vec(d), operand, immediate) : vroundps(vec(d), operand, immediate);
        case VectorOp::shift_left:
          return vpslld(vec(d), operand, immediate);
        case VectorOp::shift_right:
          return vpsrad(vec(d), operand, immediate);
        case VectorOp::to_int:
          return vcvtps2dq(vec(d), operand);
        case VectorOp::to_float:
          return vcvtdq2ps(vec(d), operand);
        default:
          ensure(false, "no vector instruction with one operand");
      }
    });
  }

  enum class Form { product_then_sum, product_with_last, sum_with_product };  // 213, 132, 231
  /// d = s * d + last, d * last + s, or s * last + d; with the signs of the operation.
  void emit_form(Form form, int d, int s, const Source& last) {
    const VectorOp op = program_[index(position_)].op;
    with(last, [&](const Xbyak::Operand& y) {
      const Xmm x = vec(d), z = vec(s);
      switch (form) {
        case Form::product_then_sum:
          return op == VectorOp::fma   ? vfmadd213ps(x, z, y)
                 : op == VectorOp::fms ? vfmsub213ps(x, z, y)
                                       : vfnmadd213ps(x, z, y);
        case Form::product_with_last:
          return op == VectorOp::fma   ? vfmadd132ps(x, z, y)
                 : op == VectorOp::fms ? vfmsub132ps(x, z, y)
                                       : vfnmadd132ps(x, z, y);
        case Form::sum_with_product:
          return op == VectorOp::fma   ? vfmadd231ps(x, z, y)
                 : op == VectorOp::fms ? vfmsub231ps(x, z, y)
                                       : vfnmadd231ps(x, z, y);
      }
    });
  }
  /// The result takes the place of an operand, so it should be one that is not read again.
  void emit_multiply_add(int a, int b, int c) {
    const auto is_replaceable = [&](int value) { return !is_constant(value) && next_use(value) == kNone; };
    if (!is_replaceable(a) && is_replaceable(b)) std::swap(a, b);
    int d = kNone;
    if (is_replaceable(a)) {
      d = load(a);
      if (is_in_memory(b) && !is_in_memory(c)) {
        const int s = load(c);
        emit_form(Form::product_with_last, d, s, source(b));
      } else {
        const int s = load(b);
        emit_form(Form::product_then_sum, d, s, source(c));
      }
    } else {
      if (is_in_memory(a)) std::swap(a, b);
      const int s = load(a);
      const Source y = source(b);
      if (is_replaceable(c)) {
        d = load(c);
      } else {
        const Source z = source(c);
        d = take(vectors_);
        with(z, [&](const Xbyak::Operand& operand) { vmovups(vec(d), operand); });
      }
      emit_form(Form::sum_with_product, d, s, y);
    }
    release_operands();
    assign(position_, d);
  }
  void emit_select(int condition, int yes, int no) {
    const int m = load(condition), x = load(no);
    const Source y = source(yes);
    const int d = define();
    with(y, [&](const Xbyak::Operand& operand) {
      if (avx512_) {
        vblendmps(vec(d) | mask(m), vec(x), operand);
      } else {
        vblendvps(vec(d), vec(x), operand, vec(m));
      }
    });
  }
  void emit_mask_logic(int a, int b, bool is_and) {
    const Xbyak::Opmask x = mask(load(a)), y = mask(load(b));
    const Xbyak::Opmask d = mask(define());
    if (is_and) {
      kandw(d, x, y);
    } else {
      korw(d, x, y);
    }
  }
  void emit_nonzero(int a) {
    const int x = load(a);
    const int d = define();
    vptestmd(mask(d), vec(x), vec(x));
  }

  void emit(const VectorInstruction& instruction) {
    switch (instruction.op) {
      case VectorOp::input:
      case VectorOp::constant:
      case VectorOp::table:
        return;  // loaded where they are used
      case VectorOp::add:
      case VectorOp::mul:
      case VectorOp::bit_and:
      case VectorOp::bit_or:
      case VectorOp::bit_xor:
      case VectorOp::int_add:
      case VectorOp::int_equal:
        return emit_binary(instruction.a, instruction.b, true);
      case VectorOp::sub:
      case VectorOp::div:
      case VectorOp::int_sub:
      case VectorOp::less:
      case VectorOp::equal:
      case VectorOp::unordered:
      case VectorOp::lookup:
        return emit_binary(instruction.a, instruction.b, false);
      case VectorOp::max:
      case VectorOp::min:
        // The instruction gives its second operand when one of them is NaN.
        return emit_binary(instruction.b, instruction.a, false);
      case VectorOp::fma:
      case VectorOp::fms:
      case VectorOp::fnma:
        return emit_multiply_add(instruction.a, instruction.b, instruction.c);
      case VectorOp::select:
        return emit_select(instruction.a, instruction.b, instruction.c);
      case VectorOp::mask_and:
      case VectorOp::mask_or:
        return emit_mask_logic(instruction.a, instruction.b, instruction.op == VectorOp::mask_and);
      case VectorOp::nonzero:
        return emit_nonzero(instruction.a);
      default:
        return emit_unary(instruction.a);
    }
  }

  /// One vector of results.
  void emit_body(bool in_tail) {
    in_tail_ = in_tail;
    places_.assign(program_.size(), Place{});
    slot_is_taken_.clear();
    vectors_.owner.fill(kFree);
    vectors_.end = vector_registers();
    masks_.owner.fill(kFree);
    masks_.first = 1;  // k0 means "no mask" in an instruction
    masks_.end = 7;
    for (position_ = 0; position_ < size(); ++position_) {
      vectors_.locked = masks_.locked = 0;
      emit(program_[index(position_)]);
      release_slots();
    }
    position_ = size() - 1;
    vectors_.locked = masks_.locked = 0;
    const int result = load(size() - 1);
    if (!in_tail_) {
      vmovups(ptr[rbx], vec(result));
    } else if (avx512_) {
      vmovups(ptr[rbx] | tail_mask(), vec(result));
    } else {
      vmaskmovps(ptr[rbx], tail_vector(), vec(result));
    }
  }

  /// void (NativePointwiseArgs* rdi), System V calling convention.
  void emit_function() {
    using Args = NativePointwiseArgs;
    std::vector<int> inputs;
    for (const VectorInstruction& instruction : program_) {
      if (instruction.op == VectorOp::input) inputs.push_back(static_cast<int>(instruction.bits));
    }
    push(rbx);
    push(rbp);
    push(r12);
    push(r13);
    mov(rbp, rsp);
    and_(rsp, -static_cast<int>(kSlotBytes));
    sub(rsp, frame_slots_ * static_cast<int>(kSlotBytes));
    Xbyak::Label lanes;
    if (avx512_) {
      mov(ecx, argument(&Args::behind));
      mov(eax, -1);
      bzhi(eax, eax, ecx);
      kmovw(tail_mask(), eax);
    } else {
      const Xmm low(15);
      vmovd(low, argument(&Args::behind));
      vpbroadcastd(tail_vector(), low);
      vpcmpgtd(tail_vector(), tail_vector(), ptr[rip + lanes]);
    }
    for (std::size_t i = 0; i < program_.size(); ++i) {
      if (pinned_[i] != kNone) vmovups(vec(pinned_[i]), ptr[rip + labels_[i]]);
    }
    mov(r13, argument(&Args::rows));

    Xbyak::Label row, vector, behind, row_end;
    L(row);
    for (const int i : inputs) mov(pointer(i), argument(&Args::data, i));
    mov(rbx, argument(&Args::out));
    mov(rax, argument(&Args::whole));
    test(rax, rax);
    jz(behind, T_NEAR);
    align(32);
    L(vector);
    emit_body(false);
    for (const int i : inputs) add(pointer(i), argument(&Args::step_bytes, i));
    add(rbx, vector_bytes_);
    dec(rax);
    jnz(vector, T_NEAR);
    L(behind);
    cmp(qword[argument(&Args::behind).getRegExp()], 0);
    jz(row_end, T_NEAR);
    emit_body(true);
    L(row_end);
    for (const int i : inputs) {
      mov(rax, argument(&Args::row_bytes, i));
      add(argument(&Args::data, i), rax);
    }
    mov(rax, argument(&Args::out_row_bytes));
    add(argument(&Args::out), rax);
    dec(r13);
    jnz(row, T_NEAR);

    vzeroupper();
    mov(rsp, rbp);
    pop(r13);
    pop(r12);
    pop(rbp);
    pop(rbx);
    ret();

    align(kSlotBytes);
    for (std::size_t i = 0; i < program_.size(); ++i) {
      const VectorInstruction& constant = program_[i];
      if (!is_constant(constant.op)) continue;
      L(labels_[i]);
      for (int lane = 0; lane < vector_bytes_ / 4; ++lane)
        dd(constant.table == nullptr ? constant.bits : std::bit_cast<std::uint32_t>(constant.table[lane]));
    }
    L(lanes);
    for (std::uint32_t lane = 0; lane < 8 && !avx512_; ++lane) dd(lane);
  }

  const VectorProgram& program_;
  const bool avx512_;
  const int vector_bytes_;
  const int frame_slots_;
  std::vector<std::vector<int>> uses_;  ///< of each value: the instructions that read it, ascending
  std::vector<Place> places_;
  std::vector<int> pinned_;  ///< of each constant: the register that holds it throughout
  std::vector<Xbyak::Label> labels_;
  RegisterFile vectors_, masks_;
  std::vector<bool> slot_is_taken_;
  int slots_needed_ = 0;
  int position_ = 0;  ///< the instruction that is being emitted
  bool in_tail_ = false;
};

/// Machine code for the program, relocatable; empty if it has no such form.
std::vector<std::byte> assemble(const CompiledPointwise& program, bool is_avx512) {
  if (program.num_inputs > NativePointwiseArgs::kMaxInputs) return {};
  const std::optional<VectorProgram> trace = trace_pointwise(program, is_avx512);
  if (!trace) return {};
  // An instruction has at most 15 bytes; with loads and stores an operation takes a few, in both bodies.
  const std::size_t bytes = 4096 + trace->size() * (std::size_t{2} * 5 * 15 + kSlotBytes);
  std::vector<std::byte> buffer(bytes + kSlotBytes);
  void* begin = buffer.data();
  std::size_t space = buffer.size();
  std::align(kSlotBytes, bytes, begin, space);
  int slots = 0;
  for (;;) {
    const PointwiseAssembler assembler(*trace, is_avx512, slots, begin, bytes);
    if (assembler.slots_needed() > kMaxSlots) return {};
    if (assembler.slots_needed() == slots) {
      const auto* code = reinterpret_cast<const std::byte*>(assembler.getCode());
      return {code, code + assembler.getSize()};
    }
    slots = assembler.slots_needed();
  }
}

bool wants_code() {
  static const bool kWanted = [] {
    const bool is_interpreted = is_set(kCpuJitVariable);
    if (is_interpreted) log(LogLevel::info, "{} is set: elementwise programs are interpreted", kCpuJitVariable.name);
    return !is_interpreted;
  }();
  return kWanted;
}

/// Everything that decides what the code is.
std::string key_of(const CompiledPointwise& program) {
  std::string key = std::to_string(program.num_inputs);
  for (int s = 0; s < program.num_steps; ++s) {
    const CompiledPointwise::Step& step = program.steps[s];
    std::array<char, 9> bytes{};
    bytes[0] = static_cast<char>(step.code);
    std::memcpy(bytes.data() + 1, step.operands, sizeof step.operands);
    bytes[4] = static_cast<char>(step.slot);
    std::memcpy(bytes.data() + 5, &step.immediate, sizeof step.immediate);
    key.append(bytes.data(), bytes.size());
  }
  return key;
}

std::shared_ptr<const ExecutableMemory> make_code(const CompiledPointwise& program) {
  const std::vector<std::byte> code = assemble(program, tier() == Tier::avx512);
  if (code.empty()) return nullptr;
  std::optional<ExecutableMemory> memory = ExecutableMemory::make(code);
  if (!memory) {
    static std::once_flag logged;
    const int reason = errno;
    std::call_once(logged, [reason] {
      log(LogLevel::warning, "the system allows no executable memory ({}): elementwise programs are interpreted",
          std::generic_category().message(reason));
    });
    return nullptr;
  }
  return std::make_shared<const ExecutableMemory>(std::move(*memory));
}

/// Code in use by any engine of the process.
class CodeCache {
 public:
  std::shared_ptr<const ExecutableMemory> find_or_make(const CompiledPointwise& program) {
    const std::lock_guard lock(mutex_);
    std::weak_ptr<const ExecutableMemory>& entry = entries_[key_of(program)];
    std::shared_ptr<const ExecutableMemory> code = entry.lock();
    if (code == nullptr) {
      std::erase_if(entries_, [&](const auto& other) { return &other.second != &entry && other.second.expired(); });
      entry = code = make_code(program);
    }
    return code;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<const ExecutableMemory>> entries_;
};

}  // namespace

LoadedPointwise load_pointwise(const PointwiseProgram& program) {
  static CodeCache cache;
  LoadedPointwise loaded{compile_pointwise(program), nullptr};
  if (tier() == Tier::none || !wants_code()) return loaded;
  loaded.code = cache.find_or_make(loaded.program);
  if (loaded.code == nullptr) return loaded;
  loaded.program.native = std::bit_cast<void (*)(NativePointwiseArgs*)>(loaded.code->begin());
  loaded.program.native_floats = vector_floats(tier());
  return loaded;
}

}  // namespace tenfold::cpu
