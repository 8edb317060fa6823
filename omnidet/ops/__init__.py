"""Operations on tensors: tensors in, tensors out, torch and torchvision only."""
