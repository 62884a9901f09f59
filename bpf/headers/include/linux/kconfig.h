/* Programs that use UAPI contexts only depend on no option but this one. */
#define CONFIG_BPF_SYSCALL 1
