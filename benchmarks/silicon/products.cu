// Single matrix instructions of an NVIDIA Hopper GPU on tiles of given bits: what mxsim's models are held against.
//
// A tile is one instruction for each step along K: (64, 32 bytes) times (8, 32 bytes), K innermost, with C and D of (64, 8). wgmma takes all 64
// rows at once (m64n8); mma.sync takes 16 rows in each of four warps (m16n8). All shapes used here have 32 bytes of K: 32 FP8 elements,
// 16 of fp16 or bf16, 8 of tf32, so that one layout serves every format. Steps follow one another in the accumulator registers.
//
// Built by benchmarks/silicon/device.py, called through ctypes; needs nothing but the CUDA runtime.

#include <cstdint>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

constexpr int ROWS = 64, COLUMNS = 8, BYTES = 32, THREADS = 128;

__device__ uint64_t descriptor(const void* shared) {
    // K-major without swizzle: core matrices of 8 rows x 16 bytes lie one after the other, the next along K 128 bytes on.
    uint64_t address = static_cast<uint64_t>(__cvta_generic_to_shared(shared));
    return ((address & 0x3FFFF) >> 4) | (uint64_t(128 >> 4) << 16) | (uint64_t(256 >> 4) << 32);
}

struct Fragment {
    uint32_t a[4];
};

#define WGMMA_F32(SHAPE, TYPES, TAIL)                                                                                                   \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %9, 0;\n"                                                                            \
                 "wgmma.mma_async.sync.aligned." SHAPE ".f32." TYPES " {%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, p, 1, 1" TAIL ";\n}\n"   \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                                      \
                 : "r"(f.a[0]), "r"(f.a[1]), "r"(f.a[2]), "r"(f.a[3]), "l"(b), "r"(accumulate))

#define WGMMA_F16(SHAPE, TYPES, TAIL)                                                                                                   \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %7, 0;\n"                                                                            \
                 "wgmma.mma_async.sync.aligned." SHAPE ".f16." TYPES " {%0, %1}, {%2, %3, %4, %5}, %6, p, 1, 1" TAIL ";\n}\n"           \
                 : "+r"(h[0]), "+r"(h[1])                                                                                               \
                 : "r"(f.a[0]), "r"(f.a[1]), "r"(f.a[2]), "r"(f.a[3]), "l"(b), "r"(accumulate))

#define MMA_F32(SHAPE, TYPES)                                                                                                           \
    asm volatile("mma.sync.aligned." SHAPE ".row.col.f32." TYPES ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                                      \
                 : "r"(f.a[0]), "r"(f.a[1]), "r"(f.a[2]), "r"(f.a[3]), "r"(b[0]), "r"(b[1]))

#define MMA_F16(SHAPE, TYPES)                                                                                                           \
    asm volatile("mma.sync.aligned." SHAPE ".row.col.f16." TYPES ".f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%0, %1};"                 \
                 : "+r"(h[0]), "+r"(h[1])                                                                                               \
                 : "r"(f.a[0]), "r"(f.a[1]), "r"(f.a[2]), "r"(f.a[3]), "r"(b[0]), "r"(b[1]))

// The formats' numbers, as device.py has them.
enum Format { E4M3_E4M3, E4M3_E5M2, E5M2_E4M3, E5M2_E5M2, FP16, BF16, TF32, FORMATS };

template <int FORMAT> __device__ void wgmma_f32(float (&d)[4], const Fragment& f, uint64_t b, int accumulate) {
    if constexpr (FORMAT == E4M3_E4M3) WGMMA_F32("m64n8k32", "e4m3.e4m3", "");
    if constexpr (FORMAT == E4M3_E5M2) WGMMA_F32("m64n8k32", "e4m3.e5m2", "");
    if constexpr (FORMAT == E5M2_E4M3) WGMMA_F32("m64n8k32", "e5m2.e4m3", "");
    if constexpr (FORMAT == E5M2_E5M2) WGMMA_F32("m64n8k32", "e5m2.e5m2", "");
    if constexpr (FORMAT == FP16) WGMMA_F32("m64n8k16", "f16.f16", ", 0");
    if constexpr (FORMAT == BF16) WGMMA_F32("m64n8k16", "bf16.bf16", ", 0");
    if constexpr (FORMAT == TF32) WGMMA_F32("m64n8k8", "tf32.tf32", "");
}

template <int FORMAT> __device__ void wgmma_f16(uint32_t (&h)[2], const Fragment& f, uint64_t b, int accumulate) {
    if constexpr (FORMAT == E4M3_E4M3) WGMMA_F16("m64n8k32", "e4m3.e4m3", "");
    if constexpr (FORMAT == E4M3_E5M2) WGMMA_F16("m64n8k32", "e4m3.e5m2", "");
    if constexpr (FORMAT == E5M2_E4M3) WGMMA_F16("m64n8k32", "e5m2.e4m3", "");
    if constexpr (FORMAT == E5M2_E5M2) WGMMA_F16("m64n8k32", "e5m2.e5m2", "");
    if constexpr (FORMAT == FP16) WGMMA_F16("m64n8k16", "f16.f16", ", 0");
}

template <int FORMAT> __device__ void mma_f32(float (&d)[4], const Fragment& f, const uint32_t (&b)[2]) {
    if constexpr (FORMAT == E4M3_E4M3) MMA_F32("m16n8k32", "e4m3.e4m3");
    if constexpr (FORMAT == E4M3_E5M2) MMA_F32("m16n8k32", "e4m3.e5m2");
    if constexpr (FORMAT == E5M2_E4M3) MMA_F32("m16n8k32", "e5m2.e4m3");
    if constexpr (FORMAT == E5M2_E5M2) MMA_F32("m16n8k32", "e5m2.e5m2");
    if constexpr (FORMAT == FP16) MMA_F32("m16n8k16", "f16.f16");
    if constexpr (FORMAT == BF16) MMA_F32("m16n8k16", "bf16.bf16");
    if constexpr (FORMAT == TF32) MMA_F32("m16n8k8", "tf32.tf32");
}

template <int FORMAT> __device__ void mma_f16(uint32_t (&h)[2], const Fragment& f, const uint32_t (&b)[2]) {
    if constexpr (FORMAT == E4M3_E4M3) MMA_F16("m16n8k32", "e4m3.e4m3");
    if constexpr (FORMAT == E4M3_E5M2) MMA_F16("m16n8k32", "e4m3.e5m2");
    if constexpr (FORMAT == E5M2_E4M3) MMA_F16("m16n8k32", "e5m2.e4m3");
    if constexpr (FORMAT == E5M2_E5M2) MMA_F16("m16n8k32", "e5m2.e5m2");
    if constexpr (FORMAT == FP16) MMA_F16("m16n8k16", "f16.f16");
}

// a: (tiles, ROWS, STEPS * BYTES), b: (tiles, COLUMNS, STEPS * BYTES), c and d: (tiles, ROWS, COLUMNS) of float or half. c null: the
// first wgmma does not accumulate, the first mma.sync is given +0.
template <int FORMAT, bool WGMMA, bool HALF, int STEPS>
__global__ void __launch_bounds__(THREADS) products(const uint8_t* a, const uint8_t* b, const void* c, void* out) {
    __shared__ alignas(128) uint8_t shared[STEPS][2][COLUMNS][16];
    const int thread = threadIdx.x, lane = thread % 32, group = lane / 4, quarter = lane % 4, row = thread / 32 * 16 + group;
    const size_t tile = blockIdx.x;
    a += tile * ROWS * STEPS * BYTES;
    b += tile * COLUMNS * STEPS * BYTES;
    for (int i = thread; i < COLUMNS * STEPS * BYTES; i += THREADS) {
        const int column = i / (STEPS * BYTES), k = i % (STEPS * BYTES);
        shared[k / BYTES][k % BYTES / 16][column][k % 16] = b[i];
    }
    Fragment fragments[STEPS];
#pragma unroll
    for (int step = 0; step < STEPS; ++step)
#pragma unroll
        for (int i = 0; i < 4; ++i)  // rows row and row + 8, the first 16 bytes of K and then the next
            fragments[step].a[i] =
                *reinterpret_cast<const uint32_t*>(a + ((row + i % 2 * 8) * STEPS + step) * BYTES + i / 2 * 16 + quarter * 4);
    const size_t low = tile * ROWS * COLUMNS + row * COLUMNS + quarter * 2, high = low + 8 * COLUMNS;
    float d[4] = {0, 0, 0, 0};
    uint32_t h[2] = {0, 0};
    if (c != nullptr) {
        if constexpr (HALF) {
            h[0] = *reinterpret_cast<const uint32_t*>(static_cast<const uint16_t*>(c) + low);
            h[1] = *reinterpret_cast<const uint32_t*>(static_cast<const uint16_t*>(c) + high);
        } else {
            const float* values = static_cast<const float*>(c);
            d[0] = values[low], d[1] = values[low + 1], d[2] = values[high], d[3] = values[high + 1];
        }
    }
    if constexpr (WGMMA) asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if constexpr (WGMMA) {
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            const int accumulate = step > 0 || c != nullptr;
            if constexpr (HALF)
                wgmma_f16<FORMAT>(h, fragments[step], descriptor(shared[step]), accumulate);
            else
                wgmma_f32<FORMAT>(d, fragments[step], descriptor(shared[step]), accumulate);
        }
        asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
    } else {
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            uint32_t columns[2];
            for (int i = 0; i < 2; ++i) columns[i] = *reinterpret_cast<const uint32_t*>(&shared[step][i][group][quarter * 4]);
            if constexpr (HALF)
                mma_f16<FORMAT>(h, fragments[step], columns);
            else
                mma_f32<FORMAT>(d, fragments[step], columns);
        }
    }
    if constexpr (HALF) {
        *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(out) + low) = h[0];
        *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(out) + high) = h[1];
    } else {
        float* values = static_cast<float*>(out);
        values[low] = d[0], values[low + 1] = d[1], values[high] = d[2], values[high + 1] = d[3];
    }
}

template <int FORMAT, bool WGMMA, bool HALF> void launch(int steps, int tiles, const uint8_t* a, const uint8_t* b, const void* c, void* d) {
    if (steps == 1) products<FORMAT, WGMMA, HALF, 1><<<tiles, THREADS>>>(a, b, c, d);
    if (steps == 4) products<FORMAT, WGMMA, HALF, 4><<<tiles, THREADS>>>(a, b, c, d);
}

template <int FORMAT> int chosen(bool wgmma, bool half, int steps, int tiles, const uint8_t* a, const uint8_t* b, const void* c, void* d) {
    constexpr bool HAS_HALF = FORMAT != BF16 && FORMAT != TF32;
    if (half && !HAS_HALF) return 0;
    if constexpr (HAS_HALF)
        if (half) {
            wgmma ? launch<FORMAT, true, true>(steps, tiles, a, b, c, d) : launch<FORMAT, false, true>(steps, tiles, a, b, c, d);
            return 1;
        }
    wgmma ? launch<FORMAT, true, false>(steps, tiles, a, b, c, d) : launch<FORMAT, false, false>(steps, tiles, a, b, c, d);
    return 1;
}

// Host arrays in, host array out, synchronously. Returns null, or what went wrong.
extern "C" const char* run(int format, int wgmma, int half, int steps, int tiles, const void* a, const void* b, const void* c, void* d) {
    const size_t a_bytes = size_t(tiles) * ROWS * steps * BYTES, b_bytes = size_t(tiles) * COLUMNS * steps * BYTES;
    const size_t d_bytes = size_t(tiles) * ROWS * COLUMNS * (half ? 2 : 4);
    uint8_t *ga = nullptr, *gb = nullptr, *gc = nullptr, *gd = nullptr;
    cudaError_t status = cudaSuccess;
    auto tried = [&](cudaError_t result) {
        if (status == cudaSuccess) status = result;
    };
    tried(cudaMalloc(&ga, a_bytes)), tried(cudaMalloc(&gb, b_bytes)), tried(cudaMalloc(&gd, d_bytes));
    tried(cudaMemcpy(ga, a, a_bytes, cudaMemcpyHostToDevice)), tried(cudaMemcpy(gb, b, b_bytes, cudaMemcpyHostToDevice));
    tried(cudaMemset(gd, 0xA5, d_bytes));
    if (c != nullptr) tried(cudaMalloc(&gc, d_bytes)), tried(cudaMemcpy(gc, c, d_bytes, cudaMemcpyHostToDevice));
    int known = 0;
    if (status == cudaSuccess && (steps == 1 || steps == 4)) {
        const bool w = wgmma, h = half;
        switch (format) {
            case E4M3_E4M3: known = chosen<E4M3_E4M3>(w, h, steps, tiles, ga, gb, gc, gd); break;
            case E4M3_E5M2: known = chosen<E4M3_E5M2>(w, h, steps, tiles, ga, gb, gc, gd); break;
            case E5M2_E4M3: known = chosen<E5M2_E4M3>(w, h, steps, tiles, ga, gb, gc, gd); break;
            case E5M2_E5M2: known = chosen<E5M2_E5M2>(w, h, steps, tiles, ga, gb, gc, gd); break;
            case FP16: known = chosen<FP16>(w, h, steps, tiles, ga, gb, gc, gd); break;
            case BF16: known = chosen<BF16>(w, h, steps, tiles, ga, gb, gc, gd); break;
            case TF32: known = chosen<TF32>(w, h, steps, tiles, ga, gb, gc, gd); break;
        }
        tried(cudaGetLastError()), tried(cudaDeviceSynchronize()), tried(cudaMemcpy(d, gd, d_bytes, cudaMemcpyDeviceToHost));
    }
    cudaFree(ga), cudaFree(gb), cudaFree(gc), cudaFree(gd);
    if (status != cudaSuccess) return cudaGetErrorString(status);
    return known ? nullptr : "no kernel of this format, output and number of steps: see launch and chosen";
}
