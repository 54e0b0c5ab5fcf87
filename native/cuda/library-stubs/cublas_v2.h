// In place of cuBLAS's own header, where that is not at hand: libtorch's headers name its handle
// and its status in passing, and nothing here uses either.
#pragma once
typedef struct cublasContext* cublasHandle_t;
enum cublasStatus_t : int;
